//! What a record is filed under, parsed once into types that cannot be wrong.

use std::{
    borrow::Cow,
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use crate::{
    BackendType, DiscoverConfig, Error, Layout, LayoutOptions, RegisterConfig, Result,
    layout::{Format, Update},
    shape::{Shape, check_prefix, check_segments},
};

/// The longest service name, prefix or host name, in bytes.
pub(crate) const LONGEST_NAME: usize = 255;

/// A service under a prefix: what discovery watches and registration files records under.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Service {
    prefix: Arc<str>,
    name: Arc<str>,
    /// Where and how its records lie, where they are another system's.
    shape: Option<Arc<Shape>>,
}

impl Service {
    /// Checks and normalises a prefix and a service name.
    ///
    /// The prefix is stored with one leading `/` and no trailing or doubled ones; the empty prefix
    /// stays empty.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the field, the value and the reason.
    pub fn parse(prefix: &str, name: &str) -> Result<Self> {
        Ok(Self { prefix: parse_prefix(prefix)?.into(), name: parse_name(name)?.into(), shape: None })
    }

    /// As [`Service::parse`], in a layout. In that of another system the prefix is taken verbatim, and the empty one
    /// is that system's own.
    ///
    /// # Errors
    /// As [`Service::parse`], and when the layout does not exist on this backend, or is told what it does not know.
    pub fn in_layout(
        backend: BackendType,
        prefix: &str,
        name: &str,
        layout: Layout,
        options: &LayoutOptions,
    ) -> Result<Self> {
        if layout == Layout::Discox {
            if *options != LayoutOptions::default() {
                let reason = "has no use in layout `discox`, name another one";
                return Err(Error::config("layout_options", "", reason).with_backend(backend));
            }
            return Self::parse(prefix, name);
        }
        check_prefix(prefix)?;
        let bare = Self { prefix: prefix.into(), name: parse_name(name)?.into(), shape: None };
        let shape = Shape::of(backend, &bare, layout, options)?;
        Ok(Self { shape: Some(Arc::new(shape)), ..bare })
    }

    #[cfg(test)]
    pub(crate) fn with_format(format: &'static Format, options: LayoutOptions) -> Self {
        let shape = Shape { layout: Layout::Grpc, options, format, directory: "demo".into(), is_deep: false };
        Self { prefix: "".into(), name: "demo".into(), shape: Some(Arc::new(shape)) }
    }

    /// What a discovery configuration asks for.
    ///
    /// # Errors
    /// As [`Service::in_layout`].
    pub fn of(config: &DiscoverConfig, backend: BackendType) -> Result<Self> {
        let DiscoverConfig { discover_prefix, service_name, layout, layout_options, .. } = config;
        let service = Self::in_layout(backend, discover_prefix, service_name, *layout, layout_options)?;
        match service.foreign() {
            Some((_, Format { decode: None, .. })) => {
                Err(Error::config("layout", layout, "discox does not discover in this layout"))
            }
            _ => Ok(service),
        }
    }

    /// The normalised prefix: empty, or `/` and segments without a trailing `/`. In another system's layout it is as
    /// it was given, or that system's own.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whose records these are.
    pub fn layout(&self) -> Layout {
        self.shape.as_ref().map_or(Layout::Discox, |shape| shape.layout)
    }

    /// What the layout was told.
    pub fn layout_options(&self) -> &LayoutOptions {
        static NONE: LazyLock<LayoutOptions> = LazyLock::new(LayoutOptions::default);
        self.shape.as_ref().map_or(&NONE, |shape| &shape.options)
    }

    /// How another system's records are read and written.
    pub(crate) fn foreign(&self) -> Option<(&Shape, &'static Format)> {
        self.shape.as_ref().map(|shape| (&**shape, shape.format))
    }

    /// What its records lie in, without a trailing `/`: `{prefix}/{service}`, or what the layout makes of the two.
    pub fn directory(&self) -> String {
        match self.foreign() {
            Some((shape, _)) => shape.directory.clone(),
            None => format!("{}/{}", self.prefix, self.name),
        }
    }

    /// Whether what has this name in the directory may be a record. In discox's own layout the name is the endpoint;
    /// in others the content decides.
    ///
    /// # Errors
    /// Why it is none, for a warning.
    pub fn reads(&self, name: &str) -> Result<(), &'static str> {
        if self.is_named() || Endpoint::is_readable(name) { Ok(()) } else { Err("its name is not host:port") }
    }

    /// Whether what is listed are named records, of which core makes endpoints: then a backend orders them by their
    /// last write, the oldest first, since the newest of several counts.
    pub fn is_named(&self) -> bool {
        self.foreign().is_some()
    }

    /// Whether records may lie in directories below, so that a name may have `/`.
    pub fn is_deep(&self) -> bool {
        self.foreign().is_some_and(|(shape, _)| shape.is_deep)
    }

    /// Whether a record is deleted and created anew, in one transaction, rather than set in place: its readers look at
    /// names only.
    pub fn is_replaced(&self) -> bool {
        self.foreign().is_some_and(|(_, format)| format.update != Update::InPlace)
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.prefix, self.name)
    }
}

/// A prefix: what the names of services lie under.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Prefix(Arc<str>);

impl Prefix {
    /// Checks and normalises a prefix, as [`Service::parse`] does.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the field, the value and the reason.
    pub fn parse(prefix: &str) -> Result<Self> {
        parse_prefix(prefix).map(|prefix| Self(prefix.into()))
    }

    /// The normalised prefix: empty, or `/` and segments without a trailing `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a name found in a registry can be a service's under this prefix.
    pub fn is_name(name: &str) -> bool {
        parse_name(name).is_ok()
    }

    /// What log lines and errors call the services under this prefix: `{prefix}/*`.
    pub(crate) fn services(&self) -> Service {
        Service { prefix: self.0.clone(), name: "*".into(), shape: None }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an instance can be reached: a canonical `host:port`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Endpoint {
    text: Arc<str>,
    host: Arc<str>,
    port: u16,
}

impl Endpoint {
    /// Checks `host:port`: an IPv4 address, `[IPv6]` or a DNS name, and a port of 1 to 65535.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the canonical form where there is one.
    pub fn parse(text: &str) -> Result<Self> {
        const FIELD: &str = "service_endpoint";
        let reject = |reason: &str| Err(Error::config(FIELD, text, reason));
        if text.is_empty() {
            return reject("must not be empty, use host:port");
        }
        if text.chars().any(|c| c == '/' || c.is_control() || c.is_whitespace()) {
            return reject("`/`, white space and control characters are not allowed, use host:port");
        }
        let Some((host, port)) = split(text) else {
            return reject(
                "use host:port with an IPv4 address, [IPv6] or a DNS name and a port of 1..=65535",
            );
        };
        let host = match parse_host(host) {
            Ok(host) => host,
            Err(reason) => return reject(&reason),
        };
        let canonical = format!("{host}:{port}");
        if canonical != text {
            return reject(&format!("not canonical, use {canonical}"));
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self { text: text.into(), host: bare.into(), port })
    }

    /// `host:port`, as registered.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether a record's name found in a registry can be served as an endpoint: `host:port`, though
    /// not necessarily in the form that discox writes.
    pub fn is_readable(text: &str) -> bool {
        text.len() <= LONGEST_NAME + 8
            && !text.chars().any(|c| c == '/' || c.is_control() || c.is_whitespace())
            && split(text).is_some_and(|(host, _)| !host.is_empty())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One life of a registration: another `start`, even of the same endpoint, is another incarnation.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Incarnation(u128);

impl Incarnation {
    /// A new one, unlike any other.
    pub fn new() -> Self {
        Self(fastrand::u128(..))
    }
}

/// Its number, for backends that store it otherwise than as text.
impl From<Incarnation> for u128 {
    fn from(incarnation: Incarnation) -> Self {
        incarnation.0
    }
}

impl Default for Incarnation {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is registered, but for its attr, which changes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Record {
    /// The service it belongs to.
    pub service: Service,
    /// Where the instance can be reached.
    pub endpoint: Endpoint,
    /// Whose record it is.
    pub incarnation: Incarnation,
    /// How often it is confirmed.
    pub period: Duration,
    /// How long it outlives its process; the registry may grant more.
    pub ttl: Duration,
    /// A check that the registry runs itself, where the backend can.
    pub health_check: Option<Arc<str>>,
    /// When the incarnation began: what a record says of it is always the same.
    pub began: SystemTime,
    name: Arc<str>,
    key: Arc<str>,
}

impl Record {
    /// Checks a registration's configuration and gives it an incarnation of its own.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the field, the value and the reason.
    pub fn parse(config: &RegisterConfig) -> Result<Self> {
        Self::parse_on(config.backend_type, config)
    }

    /// As [`Record::parse`], whatever backend the configuration names.
    ///
    /// # Errors
    /// As [`Record::parse`], and as [`Service::in_layout`].
    pub fn parse_on(backend: BackendType, config: &RegisterConfig) -> Result<Self> {
        const SHORTEST: Duration = Duration::from_millis(100);
        const LONGEST: Duration = Duration::from_secs(24 * 3600);
        let period = config.heart_beat_period;
        if !(SHORTEST..=LONGEST).contains(&period) {
            let reason = "out of range, use 100 ms to 24 h";
            return Err(Error::config("heart_beat_period", format_args!("{period:?}"), reason));
        }
        let ttl = config.ttl.unwrap_or(period * 3);
        if ttl <= period || ttl > LONGEST * 3 {
            let reason = format!("must be longer than the heart beat period of {period:?}, and at most 72 h");
            return Err(Error::config("ttl", format_args!("{ttl:?}"), reason));
        }
        let RegisterConfig { discover_prefix, service_name, layout, layout_options, .. } = config;
        let service = Service::in_layout(backend, discover_prefix, service_name, *layout, layout_options)?;
        let endpoint = Endpoint::parse(&config.service_endpoint)?;
        let mut record = Self {
            name: endpoint.text.clone(),
            key: format!("{}/{endpoint}", service.directory()).into(),
            service,
            endpoint,
            incarnation: Incarnation::new(),
            period,
            ttl,
            health_check: config.health_check_endpoint.as_deref().map(Arc::from),
            began: SystemTime::now(),
        };
        if let Some((shape, format)) = record.service.foreign() {
            let name = (format.name)(&record, &config.attr, &shape.options)?;
            check_segments("layout_options.instance_id", &name)?;
            (record.key, record.name) = (format!("{}/{name}", shape.directory).into(), name.into());
        }
        Ok(record)
    }

    /// What the record is called in its directory: its endpoint, or what the layout makes of it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `{directory}/{name}`: where the record is, in registries that have paths.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// What is written for this attr: the attr itself, or what the layout makes of it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config): the layout cannot carry it.
    pub(crate) fn value<'a>(&self, attr: &'a str) -> Result<Cow<'a, str>> {
        let Some((Shape { layout, options, .. }, format)) = self.service.foreign() else {
            return Ok(Cow::Borrowed(attr));
        };
        let Some(encode) = format.encode else {
            return Err(Error::config("layout", layout, "discox does not register in this layout"));
        };
        // Where the attr is in the name, another one would be another record.
        if format.update == Update::Rename && (format.name)(self, attr, options)? != *self.name {
            return Err(Error::config(
                "attr",
                attr,
                format!("cannot change while registered in layout `{layout}`"),
            ));
        }
        encode(self, attr, options).map(Cow::Owned)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)
    }
}

fn parse_prefix(prefix: &str) -> Result<String> {
    let mut normal = String::with_capacity(prefix.len() + 1);
    for segment in prefix.split('/').filter(|segment| !segment.is_empty()) {
        if let Some(reason) = wrong_segment(segment) {
            return Err(Error::config("discover_prefix", prefix, reason));
        }
        normal.push('/');
        normal.push_str(segment);
    }
    if normal.len() > LONGEST_NAME {
        return Err(Error::config("discover_prefix", prefix, "longer than 255 bytes"));
    }
    Ok(normal)
}

fn parse_name(name: &str) -> Result<&str> {
    let reject = |reason| Err(Error::config("service_name", name, reason));
    if name.is_empty() {
        return reject("must not be empty");
    }
    if name.contains('/') {
        return reject("`/` is not allowed, it is one path segment");
    }
    if name.len() > LONGEST_NAME {
        return reject("longer than 255 bytes");
    }
    match wrong_segment(name) {
        Some(reason) => reject(reason),
        None => Ok(name),
    }
}

/// What no registry can store as a segment of a path (ZooKeeper is the strictest: its programmer's
/// guide, "The ZooKeeper Data Model", lists what a path must not contain).
pub(crate) fn wrong_segment(segment: &str) -> Option<&'static str> {
    let unstorable =
        |c: char| c.is_control() || matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}');
    if matches!(segment, "." | "..") {
        Some("`.` and `..` are not allowed as a name or segment")
    } else if segment.chars().any(unstorable) {
        Some("control and private-use characters are not allowed")
    } else {
        None
    }
}

fn split(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return None;
    }
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    port.parse().ok().filter(|port| *port != 0).map(|port| (host, port))
}

/// The canonical form of a host, or why it is none.
fn parse_host(host: &str) -> Result<String, String> {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr =
            inner.parse().map_err(|_| "not an IPv6 address in the brackets".to_owned())?;
        if address.is_unspecified() {
            return Err("unspecified address, use one that clients can reach".into());
        }
        return Ok(format!("[{address}]"));
    }
    let last_label = host.rsplit('.').next().unwrap_or(host);
    if !last_label.is_empty() && last_label.bytes().all(|b| b.is_ascii_digit()) {
        let address: Ipv4Addr = host.parse().map_err(|_| "not an IPv4 address".to_owned())?;
        if address.is_unspecified() {
            return Err("unspecified address, use one that clients can reach".into());
        }
        return Ok(address.to_string());
    }
    let label_is_fine = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(label_is_fine) {
        return Err("the host is neither an IPv4 address, nor [IPv6], nor a DNS name".into());
    }
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> String {
        Endpoint::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn prefixes_are_normalised_once() {
        for prefix in ["a/b", "/a/b", "/a/b/", "//a//b//"] {
            assert_eq!(Service::parse(prefix, "demo").unwrap().directory(), "/a/b/demo");
        }
        assert_eq!(Service::parse("", "demo").unwrap().directory(), "/demo");
        assert_eq!(Service::parse("/", "demo").unwrap().directory(), "/demo");
    }

    #[test]
    fn bad_names_and_prefixes_are_rejected_by_field() {
        for name in ["", "a/b", ".", "..", "a\0b", "a\nb", "\u{e000}"] {
            assert_eq!(Service::parse("/p", name).unwrap_err().field(), Some("service_name"), "{name:?}");
        }
        for prefix in ["/a/../b", ".", "/a\0"] {
            assert_eq!(Service::parse(prefix, "demo").unwrap_err().field(), Some("discover_prefix"));
        }
    }

    #[test]
    fn endpoints_of_all_forms_are_read() {
        for (text, host, port) in [
            ("127.0.0.1:8111", "127.0.0.1", 8111),
            ("[::1]:1", "::1", 1),
            ("[2001:db8::7]:65535", "2001:db8::7", 65535),
            ("web-1.example.org:443", "web-1.example.org", 443),
            ("localhost:80", "localhost", 80),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!((endpoint.host(), endpoint.port(), endpoint.as_str()), (host, port, text));
        }
    }

    #[test]
    fn bad_endpoints_are_rejected() {
        for text in [
            "",
            "127.0.0.1",
            "127.0.0.1:",
            ":80",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "a/b:80",
            "a b:80",
            "::1:80",
            "[::1:80",
            "[zz]:80",
            "256.1.1.1:80",
            "1.2.3:80",
            "-a.org:80",
            "a..b:80",
            "a:b:80",
            "a\0:80",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_right_is_named() {
        assert!(reason("127.0.0.1:08111").contains("use 127.0.0.1:8111"));
        assert!(reason("[0:0:0:0:0:0:0:1]:80").contains("use [::1]:80"));
        assert!(reason("0.0.0.0:80").contains("unspecified"));
        assert!(reason("[::]:80").contains("unspecified"));
    }

    #[test]
    fn others_records_may_be_less_canonical() {
        assert!(Endpoint::is_readable("127.0.0.1:08111"));
        for text in ["", "demo", ":80", "a:0", "a b:1", "a/b:1"] {
            assert!(!Endpoint::is_readable(text), "{text:?}");
        }
    }

    #[test]
    fn times_are_checked() {
        let config = RegisterConfig {
            service_name: "demo".into(),
            service_endpoint: "127.0.0.1:1".into(),
            ..Default::default()
        };
        assert_eq!(Record::parse(&config).unwrap().ttl, Duration::from_secs(15));
        let zero = RegisterConfig { heart_beat_period: Duration::ZERO, ..config.clone() };
        assert_eq!(Record::parse(&zero).unwrap_err().field(), Some("heart_beat_period"));
        let short = RegisterConfig { ttl: Some(Duration::from_secs(1)), ..config };
        assert_eq!(Record::parse(&short).unwrap_err().field(), Some("ttl"));
    }
}

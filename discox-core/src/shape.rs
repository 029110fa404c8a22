//! Where and how a service's records lie, in a layout.

use crate::{
    BackendType, Error, Layout, LayoutOptions, Result,
    layout::{Directory, Format},
    record::{LONGEST_NAME, Service, wrong_segment},
};

/// What a layout makes of a service, found out once.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) layout: Layout,
    pub(crate) options: LayoutOptions,
    pub(crate) format: &'static Format,
    /// What the records lie in, without a trailing `/`.
    pub(crate) directory: String,
    /// They may lie in directories below it.
    pub(crate) is_deep: bool,
}

/// What was given makes the rest.
impl PartialEq for Shape {
    fn eq(&self, other: &Self) -> bool {
        (self.layout, &self.directory, &self.options) == (other.layout, &other.directory, &other.options)
    }
}

impl Eq for Shape {}

impl std::hash::Hash for Shape {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.layout, &self.directory).hash(state);
    }
}

impl Shape {
    /// What the layout makes of a service whose prefix and name are as given.
    pub(crate) fn of(
        backend: BackendType,
        service: &Service,
        layout: Layout,
        options: &LayoutOptions,
    ) -> Result<Self> {
        layout.check(backend).map_err(|error| error.with_backend(backend))?;
        let Some(format) = layout.format(backend) else {
            let reason = format!("discox does not have it on {backend} yet");
            return Err(Error::config("layout", layout, reason).with_backend(backend));
        };
        if service.prefix().is_empty() && format.default_prefix.is_none() {
            let reason = format!("must be given with layout `{layout}`");
            return Err(Error::config("discover_prefix", "", reason).with_backend(backend));
        }
        let Directory { path: directory, is_deep } = (format.directory)(service, options)?;
        Ok(Self { layout, options: options.clone(), format, directory, is_deep })
    }
}

/// Checks a prefix that is taken verbatim: another system finds records by the very bytes.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config): it is no path.
pub(crate) fn check_prefix(prefix: &str) -> Result<()> {
    let reject = |reason| Err(Error::config("discover_prefix", prefix, reason));
    if prefix.len() > LONGEST_NAME {
        return reject("longer than 255 bytes");
    }
    let bare = prefix.strip_prefix('/').unwrap_or(prefix);
    if prefix == "/" || bare.ends_with('/') {
        return reject("ends with `/`: it is taken verbatim with this layout, leave that out");
    }
    if prefix.is_empty() {
        return Ok(());
    }
    check_segments("discover_prefix", bare)
}

/// Checks the segments of a path: no registry can store others.
pub(crate) fn check_segments(field: &'static str, path: &str) -> Result<()> {
    for segment in path.split('/') {
        if segment.is_empty() {
            return Err(Error::config(field, path, "has an empty segment"));
        }
        if let Some(reason) = wrong_segment(segment) {
            return Err(Error::config(field, path, reason));
        }
    }
    Ok(())
}

//! What goes to standard output, as text or as JSON.

use std::{
    fmt,
    io::{self, Write},
    time::SystemTime,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

/// How to print.
#[derive(Clone, Copy, Debug, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// For people: one line each.
    #[default]
    Text,
    /// For programs: one object a line, or one array for a list.
    Json,
}

/// Something that happened.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    event: &'static str,
    #[serde(flatten)]
    of: Of<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    at: String,
}

/// What something happened to.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Of<'a> {
    Endpoint {
        endpoint: Option<&'a str>,
        #[serde(flatten)]
        attr: Attr<'a>,
    },
    Service {
        service: Option<&'a str>,
    },
}

/// An endpoint of a list.
#[derive(Debug, Serialize)]
pub(crate) struct Entry<'a> {
    endpoint: &'a str,
    #[serde(flatten)]
    attr: Attr<'a>,
}

/// An attr, which is JSON's text wherever it can be.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Attr<'a> {
    Text { attr: &'a str },
    Binary { attr_base64: String },
    None { attr: () },
}

impl<'a> Line<'a> {
    /// An event of the whole, with what there is to say of it.
    pub(crate) fn event(event: &'static str, message: Option<String>) -> Self {
        let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        Self { event, of: Of::Endpoint { endpoint: None, attr: Attr::None { attr: () } }, message, at }
    }

    /// Adds the endpoint that it happened to, and its attr if there is one.
    pub(crate) fn endpoint(self, endpoint: &'a str, attr: Option<&'a [u8]>) -> Self {
        let attr = attr.map_or(Attr::None { attr: () }, Attr::from);
        Self { of: Of::Endpoint { endpoint: Some(endpoint), attr }, ..self }
    }

    /// It is told of services; adds the one that it happened to.
    pub(crate) fn service(self, service: Option<&'a str>) -> Self {
        Self { of: Of::Service { service }, ..self }
    }
}

impl<'a> Entry<'a> {
    /// An endpoint with its attr.
    pub(crate) fn new(endpoint: &'a str, attr: &'a [u8]) -> Self {
        Self { endpoint, attr: attr.into() }
    }
}

impl<'a> From<&'a [u8]> for Attr<'a> {
    fn from(attr: &'a [u8]) -> Self {
        match str::from_utf8(attr) {
            Ok(attr) => Self::Text { attr },
            Err(_) => Self::Binary { attr_base64: BASE64_STANDARD.encode(attr) },
        }
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.at, self.event)?;
        match &self.of {
            Of::Endpoint { endpoint: Some(endpoint), attr } => write!(f, " {}{attr}", OnOneLine(endpoint))?,
            Of::Service { service: Some(service) } => write!(f, " {}", OnOneLine(service))?,
            Of::Endpoint { endpoint: None, .. } | Of::Service { service: None } => {}
        }
        match &self.message {
            Some(message) => write!(f, ": {}", OnOneLine(message)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", OnOneLine(self.endpoint), self.attr)
    }
}

/// With a space before it, or nothing.
impl fmt::Display for Attr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { attr: "" } | Self::None { .. } => Ok(()),
            Self::Text { attr } => write!(f, " {}", OnOneLine(attr)),
            Self::Binary { attr_base64 } => write!(f, " base64:{attr_base64}"),
        }
    }
}

/// What others have written, without the control characters that could break the line or command the
/// terminal.
pub(crate) struct OnOneLine<'a>(pub(crate) &'a str);

impl fmt::Display for OnOneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c.is_control() {
            true => write!(f, "{}", c.escape_default()),
            false => write!(f, "{c}"),
        })
    }
}

/// Prints lines, each an object of its own in JSON, and flushes. Blocks while the reader is slow.
pub(crate) fn print_lines(lines: &[Line<'_>], format: Format) -> io::Result<()> {
    write(|out| {
        lines.iter().try_for_each(|line| match format {
            Format::Text => writeln!(out, "{line}"),
            Format::Json => writeln!(out, "{}", serde_json::to_string(line)?),
        })
    })
}

/// Prints a list, one array in JSON, and flushes.
pub(crate) fn print_list(entries: &[Entry<'_>], format: Format) -> io::Result<()> {
    write(|out| match format {
        Format::Text => entries.iter().try_for_each(|entry| writeln!(out, "{entry}")),
        Format::Json => writeln!(out, "{}", serde_json::to_string(entries)?),
    })
}

/// Prints a line of JSON or of text, whichever is wanted, and flushes.
pub(crate) fn print_either(
    json: &impl Serialize,
    text: &impl fmt::Display,
    format: Format,
) -> io::Result<()> {
    write(|out| match format {
        Format::Text => writeln!(out, "{text}"),
        Format::Json => writeln!(out, "{}", serde_json::to_string(json)?),
    })
}

/// Prints names, one array in JSON, and flushes.
pub(crate) fn print_names(names: &[String], format: Format) -> io::Result<()> {
    write(|out| match format {
        Format::Text => names.iter().try_for_each(|name| writeln!(out, "{}", OnOneLine(name))),
        Format::Json => writeln!(out, "{}", serde_json::to_string(names)?),
    })
}

fn write(content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    content(&mut out)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(attr: &[u8]) -> String {
        serde_json::to_string(&Entry::new("a:1", attr)).unwrap()
    }

    #[test]
    fn an_attr_is_text_where_it_can_be() {
        assert_eq!(json(br#"{"w":1}"#), r#"{"endpoint":"a:1","attr":"{\"w\":1}"}"#);
        assert_eq!(json(b""), r#"{"endpoint":"a:1","attr":""}"#);
        assert_eq!(json(b"\xff\x00"), r#"{"endpoint":"a:1","attr_base64":"/wA="}"#);
    }

    #[test]
    fn an_event_has_all_that_programs_look_for() {
        let line = Line { at: "now".into(), ..Line::event("synced", None) };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(text, r#"{"event":"synced","endpoint":null,"attr":null,"at":"now"}"#);
        let line = Line { at: "now".into(), ..Line::event("add", None).service(Some("orders")) };
        assert_eq!(serde_json::to_string(&line).unwrap(), r#"{"event":"add","service":"orders","at":"now"}"#);
        let line = Line { at: "now".into(), ..Line::event("lost", Some("why".into())) };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(text, r#"{"event":"lost","endpoint":null,"attr":null,"message":"why","at":"now"}"#);
    }

    #[test]
    fn what_others_have_written_stays_on_its_line() {
        assert_eq!(Entry::new("a:1", b"x\ny\x1b[2J").to_string(), r"a:1 x\ny\u{1b}[2J");
        assert_eq!(Entry::new("a:1", b"").to_string(), "a:1");
        assert_eq!(Entry::new("a:1", b"\xff").to_string(), "a:1 base64:/w==");
        let line = Line { at: "now".into(), ..Line::event("add", None).endpoint("a:1", Some(b"x")) };
        assert_eq!(line.to_string(), "now add a:1 x");
    }
}

//! What a client says.

use serde::{Deserialize, Serialize};

use crate::{Error, Hello, line};

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Who it is, and which version it speaks. Not needed: without it the daemon takes the client to speak its own.
    Hello(Hello),
    /// A snapshot now, and from then on every update.
    Subscribe {},
    /// A snapshot.
    Snapshot {},
    /// The status.
    Status {},
    /// All about one finding.
    Finding(Wanted),
    /// The course of the section of one finding.
    Timeline(Wanted),
    /// Metrics in the text form of OpenMetrics.
    Metrics {},
    /// A request that this version does not know, by its name.
    #[serde(skip)]
    Unknown(String),
}

/// Which finding.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Wanted {
    /// Its [`crate::Class::id`].
    pub id: String,
}

impl Request {
    /// Reads a line.
    ///
    /// # Errors
    ///
    /// If it is no request.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut unknown = None;
        for (name, value) in line::object(text)? {
            return Ok(match name.as_str() {
                "hello" => Self::Hello(line::body(&name, value)?),
                "subscribe" => Self::Subscribe {},
                "snapshot" => Self::Snapshot {},
                "status" => Self::Status {},
                "finding" => Self::Finding(line::body(&name, value)?),
                "timeline" => Self::Timeline(line::body(&name, value)?),
                "metrics" => Self::Metrics {},
                _ => {
                    unknown.get_or_insert(name);
                    continue;
                }
            });
        }
        unknown.map(Self::Unknown).ok_or_else(|| Error::Line("the object is empty".to_owned()))
    }

    /// As a line, with its end.
    #[must_use]
    pub fn line(&self) -> String {
        line::line(self)
    }
}

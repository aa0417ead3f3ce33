//! What the daemon says.

use lazymmu_report::{Finding, Hooks, Reason, SectionTimeline, Target, Word};
use serde::{Deserialize, Serialize};

use crate::{Class, Error, Second, Status, VERSION, Version, line};

/// What the daemon says.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// The first line.
    Hello(Hello),
    /// Everything at one moment.
    Snapshot(Box<Snapshot>),
    /// What has changed since the last update or snapshot.
    Update(Update),
    /// How the capture is doing.
    Status(Box<Status>),
    /// All about one finding.
    Finding(Box<Detail>),
    /// The course of the section of one finding.
    Timeline(Box<Timeline>),
    /// Metrics.
    Metrics(Metrics),
    /// The client was too slow. A snapshot follows.
    Dropped(Dropped),
    /// The capture is over. No more follows.
    End(End),
    /// A request that was not done.
    Error(Refusal),
    /// A message that this version does not know, by its name.
    #[serde(skip)]
    Unknown(String),
}

/// Who speaks, and which version.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Hello {
    /// The version of the protocol.
    pub protocol: Version,
    /// The version of lazymmu, or the name and version of another client.
    pub lazymmu: String,
    /// The kernel that is traced; nothing if a client says hello.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// What this client gets to see of addresses; nothing if a client says hello.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Addresses>,
    /// When the capture began: ns since 1970; nothing if a client says hello.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ns: Option<u64>,
}

/// What a client gets to see of the kernel's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Addresses {
    /// Themselves.
    Shown,
    /// Stand-ins that are the same for the same address as long as the daemon runs.
    Hidden,
    /// What a later version says.
    #[serde(other)]
    Other,
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Snapshot {
    /// The hooks, and what could not be hooked. They stay what they are.
    pub hooks: Hooks,
    /// How the capture is doing.
    pub status: Status,
    /// Every finding, by its id.
    pub findings: Vec<Class>,
    /// The last minutes, a second each, the oldest first.
    pub history: Vec<Second>,
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Update {
    /// Findings that are new, or whose counts have changed, as they are now.
    pub findings: Vec<Class>,
    /// The ids of findings that are no more: their call stacks got better names, and with them other ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<String>,
}

/// All about one finding.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Detail {
    /// As in the list.
    pub class: Class,
    /// As in a report, with the stacks and values, and without the timeline.
    pub finding: Finding,
}

/// The course of a section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Timeline {
    /// Of which finding.
    pub id: String,
    /// The course; nothing if it was not kept.
    pub section: Option<SectionTimeline>,
}

/// Metrics.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Metrics {
    /// In the text form of OpenMetrics 1.0.
    pub text: String,
}

/// The client was too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Dropped {
    /// How many lines it did not get since it was last told.
    pub count: u64,
}

/// The capture is over.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct End {
    /// `clean`, `hazards` or `inconclusive`.
    pub verdict: Word,
    /// Why a hazard may have been missed, whatever the verdict is.
    pub reasons: Vec<Reason>,
}

/// A request that was not done.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Refusal {
    /// In one word.
    pub kind: Why,
    /// In words, which fit after "failed to".
    pub text: String,
}

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The client speaks another major version. The connection ends.
    Version,
    /// The line is no request.
    BadRequest,
    /// The line is too long. The connection ends.
    TooLong,
    /// This daemon does not know the request.
    UnknownRequest,
    /// There is no finding of that id.
    UnknownFinding,
    /// The client may not. The connection ends.
    NotAllowed,
    /// There are too many clients. The connection ends.
    TooManyClients,
    /// What a later version says.
    #[serde(other)]
    Other,
}

impl Hello {
    /// What a client of this version says.
    #[must_use]
    pub fn client() -> Self {
        Self {
            protocol: VERSION,
            lazymmu: env!("CARGO_PKG_VERSION").to_owned(),
            target: None,
            addresses: None,
            started_ns: None,
        }
    }

    /// Whether who says this can be understood.
    ///
    /// # Errors
    ///
    /// If it speaks another major version; the error names both.
    pub fn check(&self) -> Result<(), Error> {
        self.protocol.check(&self.lazymmu)
    }
}

impl Message {
    /// Reads a line.
    ///
    /// # Errors
    ///
    /// If it is no message.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut unknown = None;
        for (name, value) in line::object(text)? {
            return Ok(match name.as_str() {
                "hello" => Self::Hello(line::body(&name, value)?),
                "snapshot" => Self::Snapshot(line::body(&name, value)?),
                "update" => Self::Update(line::body(&name, value)?),
                "status" => Self::Status(line::body(&name, value)?),
                "finding" => Self::Finding(line::body(&name, value)?),
                "timeline" => Self::Timeline(line::body(&name, value)?),
                "metrics" => Self::Metrics(line::body(&name, value)?),
                "dropped" => Self::Dropped(line::body(&name, value)?),
                "end" => Self::End(line::body(&name, value)?),
                "error" => Self::Error(line::body(&name, value)?),
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

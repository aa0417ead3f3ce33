//! A plan as a file: JSON, versioned, compressed where the name ends in `.zst`. A plan of another kernel, or of a version that this program does not know, is
//! refused with the reason.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::build_id::BuildId;

use super::model::{Plan, Version};

/// No plan is larger: a kernel has some thousand sites, of less than 1 KiB each.
const MAX_BYTES: u64 = 64 << 20;

/// What zstd begins a frame with.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Plans are kept for long: small is better than quick.
const ZSTD_LEVEL: i32 = 19;

/// Why a plan cannot be stored or used.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file could not be read or written.
    #[error("{doing} the plan {}: {source}", .path.display())]
    Io {
        /// `read` or `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no plan.
    #[error("read the plan {}: {reason}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A newer lazymmu has written it.
    #[error(
        "read the plan {}: it has version {}.{} of the format and this lazymmu knows {}; use lazymmu {made_by} or \
         later, or make the plan again",
        .path.display(), .version.major, .version.minor, Version::CURRENT.major
    )]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: Version,
        /// The lazymmu that wrote it.
        made_by: String,
    },
    /// It is of another kernel.
    #[error(
        "use this plan: it is for the kernel with build id {found}, and this kernel has {wanted}; make one of it"
    )]
    OtherKernel {
        /// The plan's build id.
        found: String,
        /// The kernel's build id.
        wanted: BuildId,
    },
    /// It does not say for which kernel it is.
    #[error(
        "use this plan: it was made of an image without a build id, so it cannot be told whether it is of this kernel"
    )]
    NoBuildId,
}

/// What every version has.
#[derive(Deserialize)]
struct Envelope {
    version: Version,
    #[serde(default)]
    made_from: Maker,
}

#[derive(Default, Deserialize)]
struct Maker {
    #[serde(default)]
    lazymmu: String,
}

/// The probes of a plan, each in a line, which are taken out of it.
fn rows(plan: &mut serde_json::Value, indent: &str) -> Result<String, serde_json::Error> {
    let probes = plan.get_mut("probes").map(serde_json::Value::take).unwrap_or_default();
    let rows = probes.as_array().map_or(&[][..], Vec::as_slice);
    let rows: Result<Vec<_>, _> = rows.iter().map(serde_json::to_string).collect();
    let rows = rows?.join(&format!(",\n{indent}"));
    Ok(if rows.is_empty() { "[]".to_owned() } else { format!("[\n{indent}{rows}\n{}]", &indent[2..]) })
}

impl Plan {
    /// As JSON, one probe in a line, so that two plans can be compared line by line.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let mut value = serde_json::to_value(self)?;
        // In the order in which they are written: fields are sorted by name, so the modules' come first.
        let mut lists = Vec::new();
        let modules = value.get_mut("modules").and_then(serde_json::Value::as_array_mut);
        for module in modules.into_iter().flatten() {
            lists.push(rows(module, "        ")?);
        }
        lists.push(rows(&mut value, "    ")?);
        let text = serde_json::to_string_pretty(&value)?;
        let mut parts = text.split("\"probes\": null");
        let mut whole = parts.next().unwrap_or_default().to_owned();
        for (list, part) in lists.iter().zip(parts) {
            whole.push_str("\"probes\": ");
            whole.push_str(list);
            whole.push_str(part);
        }
        whole.push('\n');
        Ok(whole)
    }

    /// Writes it to a file; an existing one is replaced. It is compressed if the name ends in `.zst`.
    pub fn save(&self, path: &Path) -> Result<(), PlanError> {
        let io = |source| PlanError::Io { doing: "write", path: path.to_owned(), source };
        let text = self.to_json().map_err(|error| io(error.into()))?;
        let packed = path.extension().is_some_and(|extension| extension == "zst");
        let bytes = if packed {
            zstd::encode_all(text.as_bytes(), ZSTD_LEVEL).map_err(io)?
        } else {
            text.into_bytes()
        };
        let mut file = BufWriter::new(File::create(path).map_err(io)?);
        file.write_all(&bytes).and_then(|()| file.flush()).map_err(io)
    }

    /// Reads one from a file, compressed or not.
    pub fn load(path: &Path) -> Result<Self, PlanError> {
        let io = |source| PlanError::Io { doing: "read", path: path.to_owned(), source };
        let mut bytes = Vec::new();
        File::open(path).map_err(io)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.starts_with(&ZSTD) {
            let decoder = zstd::Decoder::with_buffer(&bytes[..]);
            let mut plain = Vec::new();
            let unpacked = decoder.and_then(|decoder| decoder.take(MAX_BYTES + 1).read_to_end(&mut plain));
            unpacked.map_err(|error| PlanError::Format {
                path: path.to_owned(),
                reason: format!("it is damaged: {error}"),
            })?;
            bytes = plain;
        }
        Self::parse(&bytes, path)
    }

    /// Reads one from memory; `path` is only for messages.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, PlanError> {
        let format = |reason: String| PlanError::Format { path: path.to_owned(), reason };
        if bytes.len() as u64 > MAX_BYTES {
            return Err(format(format!("it is larger than {} MiB", MAX_BYTES >> 20)));
        }
        let envelope: Envelope =
            serde_json::from_slice(bytes).map_err(|error| format(format!("it is no plan: {error}")))?;
        if envelope.version.major != Version::CURRENT.major {
            return Err(PlanError::OtherVersion {
                path: path.to_owned(),
                version: envelope.version,
                made_by: envelope.made_from.lazymmu,
            });
        }
        serde_json::from_slice(bytes).map_err(|error| format(format!("it is damaged: {error}")))
    }

    /// Refuses the plan if it is not of the kernel with this build id.
    pub fn check_kernel(&self, wanted: &BuildId) -> Result<(), PlanError> {
        match &self.kernel.build_id {
            None => Err(PlanError::NoBuildId),
            Some(found) if *found == wanted.to_string() => Ok(()),
            Some(found) => Err(PlanError::OtherKernel { found: found.clone(), wanted: wanted.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use lazymmu_abi::{Kind, Level, Op};

    use super::super::model::*;
    use super::*;
    use crate::arch::{Architecture, Operand, Register, Value};

    fn plan() -> Plan {
        let site = Probe {
            address: TextOffset(0x1234),
            function: "copy_page_range".to_owned(),
            offset: 0x34,
            source: Source::Site,
            kind: Kind::Read,
            op: Op::PtepGet,
            level: Some(Level::Pte),
            entry: Some(Operand { index: Some(Register::Rcx), scale: 8, ..Operand::register(Register::R12) }),
            size: Some(8),
            count: Count::One,
            read: Some(Value::Memory),
            written: None,
            inlined: vec!["copy_pte_range".to_owned(), "ptep_get".to_owned()],
            file: Some("mm/memory.c".to_owned()),
            found: vec![Evidence::InlinedAccessor, Evidence::TypedVariable],
            code: "498b04cc".to_owned(),
            patched: false,
            verdict: Verdict::Probe,
        };
        let mode = Probe {
            address: TextOffset(0x2000),
            kind: Kind::Section,
            op: Op::ArchLeave,
            level: None,
            entry: None,
            size: None,
            read: None,
            patched: true,
            verdict: Verdict::Refused { reason: Refusal::Notrace },
            ..site.clone()
        };
        let write = Probe {
            address: TextOffset(0x3000),
            source: Source::Symbol,
            count: Count::Register(Register::R8),
            written: Some(Value::Immediate { value: -1 }),
            verdict: Verdict::Covered { by: "set_ptes".to_owned() },
            ..site.clone()
        };
        Plan {
            version: Version::CURRENT,
            kernel: Kernel {
                release: Some("7.2.13".to_owned()),
                build_id: Some("abcd01".to_owned()),
                architecture: Architecture::X86_64,
                module: None,
                nesting: true,
            },
            made_from: MadeFrom {
                image: "vmlinux".to_owned(),
                debug_info: true,
                symbols: "symtab".to_owned(),
                lazymmu: "9.9".to_owned(),
            },
            tracepoints: vec![],
            state: vec![StateField { field: "task_struct.x".to_owned(), offset: 8, size: 1 }],
            probes: vec![site, mode, write],
            modules: vec![],
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = plan().to_json().unwrap();
        assert_eq!(Plan::parse(text.as_bytes(), Path::new("p")).unwrap(), plan(), "{text}");
        assert_eq!(text.lines().filter(|line| line.contains("\"address\"")).count(), 3, "a probe is a line");
        let module = Plan { kernel: Kernel { module: Some("m".to_owned()), ..plan().kernel }, ..plan() };
        let with_modules =
            Plan { modules: vec![module.clone(), Plan { probes: vec![], ..module }], ..plan() };
        let text = with_modules.to_json().unwrap();
        assert_eq!(Plan::parse(text.as_bytes(), Path::new("p")).unwrap(), with_modules, "{text}");
        assert_eq!(text.lines().filter(|line| line.contains("\"address\"")).count(), 6, "a probe is a line");
        assert_eq!(with_modules.wanted().count(), 2);
        let empty = Plan { probes: vec![], ..plan() };
        assert_eq!(Plan::parse(empty.to_json().unwrap().as_bytes(), Path::new("p")).unwrap(), empty);
    }

    #[test]
    fn a_plan_may_be_compressed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.plan.zst");
        plan().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.starts_with(&ZSTD) && bytes.len() < plan().to_json().unwrap().len() / 2);
        assert_eq!(Plan::load(&path).unwrap(), plan());
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        let error = Plan::load(&path).unwrap_err().to_string();
        assert!(error.contains("it is damaged"), "{error}");
    }

    #[test]
    fn another_major_version_is_refused_and_says_who_can_read_it() {
        let text = plan().to_json().unwrap().replace("\"major\": 1", "\"major\": 2");
        let error = Plan::parse(text.as_bytes(), Path::new("p")).unwrap_err();
        assert!(matches!(error, PlanError::OtherVersion { .. }), "{error}");
        assert!(error.to_string().contains("lazymmu 9.9"), "{error}");
    }

    #[test]
    fn fields_of_a_later_minor_version_are_left_out() {
        let text = plan().to_json().unwrap().replace("\"state\":", "\"later\": {\"x\": 1}, \"state\":");
        assert_eq!(Plan::parse(text.as_bytes(), Path::new("p")).unwrap(), plan());
    }

    #[test]
    fn a_plan_of_another_kernel_is_refused() {
        let (right, other) = (BuildId::new([0xab, 0xcd, 1]), BuildId::new([1, 2, 3]));
        plan().check_kernel(&right).unwrap();
        let error = plan().check_kernel(&other).unwrap_err().to_string();
        assert!(error.contains("abcd01") && error.contains("010203"), "{error}");
        let mut nameless = plan();
        nameless.kernel.build_id = None;
        assert!(matches!(nameless.check_kernel(&right), Err(PlanError::NoBuildId)));
    }

    #[test]
    fn damage_is_told_wherever_it_is() {
        let text = plan().to_json().unwrap();
        // The end of the last line may be missing.
        for len in 0..text.trim_end().len() {
            let error = Plan::parse(&text.as_bytes()[..len], Path::new("p"));
            assert!(matches!(error, Err(PlanError::Format { .. })), "{len} bytes");
        }
        for (right, wrong) in [("ptep_get\"", "ptep_got\""), ("0x1234", "1234"), ("\"pte\"", "\"ptx\"")] {
            let error = Plan::parse(text.replace(right, wrong).as_bytes(), Path::new("p"));
            assert!(matches!(error, Err(PlanError::Format { .. })), "{wrong}");
        }
    }
}

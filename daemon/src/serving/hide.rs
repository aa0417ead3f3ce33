//! Stand-ins for addresses of the kernel, for clients that may not see them. docs/protocol.md says what stays.

use std::hash::{BuildHasher as _, RandomState};

use lazymmu_protocol::{Class, Detail, Message, Party, Status};
use lazymmu_report::{Decoded, Finding, SectionTimeline, Site, StackFrame, Value};

/// What says where in its table an entry stands, or what the low bits of a value say.
const LOW: u64 = 0xfff;
/// The bits of a value that are not part of a frame number on any architecture.
const HIGH: u64 = 0x3f << 58;

/// Makes stand-ins: the same for the same as long as it lives, and nothing can be learned from them.
#[derive(Debug, Default)]
pub(super) struct Hider(RandomState);

impl Hider {
    /// The message as others see it.
    pub(super) fn message(&self, mut message: Message) -> Message {
        match &mut message {
            Message::Snapshot(snapshot) => {
                snapshot.findings.iter_mut().for_each(|class| self.class(class));
                self.status(&mut snapshot.status);
            }
            Message::Update(update) => update.findings.iter_mut().for_each(|class| self.class(class)),
            Message::Status(status) => self.status(status),
            Message::Finding(detail) => {
                let Detail { class, finding } = &mut **detail;
                self.class(class);
                self.finding(finding);
            }
            Message::Timeline(timeline) => {
                if let Some(section) = &mut timeline.section {
                    self.section(section);
                }
            }
            Message::Hello(_)
            | Message::Metrics(_)
            | Message::Dropped(_)
            | Message::End(_)
            | Message::Error(_)
            | Message::Unknown(_) => {}
        }
        message
    }

    fn class(&self, class: &mut Class) {
        let Class { write, access, opener, .. } = class;
        for Party { function, .. } in [write.as_mut(), Some(access), opener.as_mut()].into_iter().flatten() {
            self.function(function);
        }
    }

    fn status(&self, status: &mut Status) {
        status.tasks.iter_mut().filter_map(|task| task.opener.as_mut()).for_each(|name| self.function(name));
    }

    fn finding(&self, finding: &mut Finding) {
        let Finding { write, access, opener, example, .. } = finding;
        for Site { function, stack, .. } in
            [write.as_mut(), Some(access), opener.as_mut()].into_iter().flatten()
        {
            self.function(function);
            for StackFrame { function, .. } in stack {
                self.function(function);
            }
        }
        self.entry(&mut example.entry);
        for value in [&mut example.pending, &mut example.seen, &mut example.memory].into_iter().flatten() {
            self.value(value);
        }
    }

    fn section(&self, section: &mut SectionTimeline) {
        for step in &mut section.steps {
            step.function.iter_mut().for_each(|name| self.function(name));
            self.entry(&mut step.entry);
            step.value.iter_mut().for_each(|value| self.value(value));
        }
    }

    /// A function without a name is called by its address.
    fn function(&self, name: &mut String) {
        if let Some(address) = number(name) {
            *name = format!("0x{:x}", self.stand_in(address) & (u64::MAX >> 16));
        }
    }

    fn entry(&self, entry: &mut Option<String>) {
        if let Some(address) = entry.as_deref().and_then(number) {
            *entry = Some(hex((self.stand_in(address & !LOW) & !LOW & (u64::MAX >> 16)) | (address & LOW)));
        }
    }

    fn value(&self, value: &mut Value) {
        let Some(raw) = number(&value.raw) else { return };
        let secret = raw & !(LOW | HIGH);
        let shown = if secret == 0 { 0 } else { self.stand_in(secret) & !(LOW | HIGH) };
        value.raw = hex((raw & (LOW | HIGH)) | shown);
        if let Some(Decoded { frame, swap_offset, .. }) = &mut value.decoded {
            (*frame, *swap_offset) = (None, None);
        }
    }

    fn stand_in(&self, number: u64) -> u64 {
        self.0.hash_one(number)
    }
}

fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn hex(value: u64) -> String {
    format!("{value:#018x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(hider: &Hider, address: u64) -> u64 {
        let mut entry = Some(hex(address));
        hider.entry(&mut entry);
        number(&entry.unwrap()).unwrap()
    }

    #[test]
    fn the_same_address_has_the_same_stand_in_and_neighbours_stay_neighbours() {
        let hider = Hider::default();
        let (first, second) = (0xffff_8880_1234_5ff0, 0xffff_8880_1234_5ff8);
        assert_eq!(entry(&hider, first), entry(&hider, first));
        assert_eq!(entry(&hider, first) + 8, entry(&hider, second));
        assert_ne!(entry(&hider, first) >> 12, entry(&hider, 0xffff_8880_1234_6ff0) >> 12);
        assert_ne!(entry(&hider, first) >> 12, entry(&Hider::default(), first) >> 12);
        assert_eq!(entry(&hider, first) >> 48, 0, "no address of a kernel");
    }

    #[test]
    fn of_a_value_the_bits_stay_and_the_frame_goes() {
        let hider = Hider::default();
        let decoded = Decoded {
            kind: "present".into(),
            frame: Some("0x1234".to_owned()),
            bits: vec!["write".into()],
            ..Decoded::default()
        };
        let mut value = Value { raw: hex(0x8000_0000_0123_4867), decoded: Some(decoded) };
        hider.value(&mut value);
        let raw = number(&value.raw).unwrap();
        assert_eq!((raw & LOW, raw >> 58), (0x867, 0x20));
        assert_ne!(raw & 0x000f_ffff_ffff_f000, 0x0123_4000);
        let decoded = value.decoded.unwrap();
        assert_eq!((decoded.frame, decoded.bits.len()), (None, 1));
        let mut none = Value { raw: hex(0), decoded: None };
        hider.value(&mut none);
        assert_eq!(none.raw, hex(0), "an empty entry is no secret");
    }

    #[test]
    fn names_stay_and_addresses_of_text_go() {
        let hider = Hider::default();
        let mut name = "copy_pte_range".to_owned();
        hider.function(&mut name);
        assert_eq!(name, "copy_pte_range");
        let mut name = "0xffffffff81234567".to_owned();
        hider.function(&mut name);
        assert!(name.starts_with("0x") && !name.contains("8123"), "{name}");
    }
}

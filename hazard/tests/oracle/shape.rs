//! The ways in which records get lost, with the `Lost` records that a capture puts in their place: before the next record
//! that the CPU delivers, at the end if there is none.

use lazymmu_abi::{Kind, Record};

use crate::program::{CPUS, Random};

/// A trace with holes.
pub(crate) struct Lossy {
    pub(crate) records: Vec<Record>,
    /// Events whose record is missing.
    pub(crate) missing: Vec<u32>,
}

/// Which records get lost.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Some in a row, of one CPU or of all, several times.
    Windows,
    /// Some of one kind only, as where one buffer is too small.
    OneKind(Kind),
    /// All of one CPU from some point on, up to another or to the end.
    OneCpu,
    /// Single ones anywhere, and no `Lost` says of which kind.
    Unknown,
    /// Some in a row of all CPUs, and no `Lost` says on which CPU or how many.
    Uncounted,
}

impl Shape {
    /// The shape for the program of that number, besides windows.
    pub(crate) fn of(number: u64) -> Self {
        match number % 12 {
            0..3 => Self::OneKind(Kind::Section),
            3 => Self::OneKind(Kind::Write),
            4 => Self::OneKind(Kind::Rmw),
            5 => Self::OneKind(Kind::Switch),
            6 => Self::OneKind(
                [Kind::TaskExit, Kind::Read, Kind::TlbFlush, Kind::Fault][number as usize / 12 % 4],
            ),
            7..10 => Self::OneCpu,
            10 => Self::Unknown,
            _ => Self::Uncounted,
        }
    }

    /// Takes records out.
    pub(crate) fn lose(self, records: &[Option<Record>], random: &mut Random) -> Lossy {
        let mut holes = Holes {
            // One that says what was lost, or one that only says how many.
            kinds_known: random.percent(70),
            untold: vec![Vec::new(); CPUS],
            lossy: Lossy { records: Vec::with_capacity(records.len() + 8), missing: Vec::new() },
        };
        let mut gone = self.choose(records, random);
        if matches!(self, Self::Unknown) {
            holes.kinds_known = false;
        } else if !matches!(self, Self::Windows) {
            holes.kinds_known = true;
        }
        let uncounted = matches!(self, Self::Uncounted);
        for (number, record) in records.iter().enumerate() {
            let Some(record) = record else { continue };
            if gone(number, record) {
                holes.lose(number, record);
            } else if uncounted {
                holes.tell_uncounted();
                holes.lossy.records.push(*record);
            } else {
                holes.tell(record.cpu, record.time);
                holes.lossy.records.push(*record);
            }
        }
        if uncounted {
            holes.tell_uncounted();
        }
        for cpu in 0..CPUS {
            holes.tell(cpu as u16, u64::MAX);
        }
        holes.lossy
    }

    /// Says of each record in turn whether it gets lost.
    fn choose<'a>(self, records: &[Option<Record>], random: &'a mut Random) -> Choice<'a> {
        match self {
            Self::Windows | Self::Uncounted => {
                let mut window: Option<(Option<u16>, usize)> = None;
                let any = matches!(self, Self::Uncounted);
                Box::new(move |_, record| {
                    if let Some((_, 0)) = window {
                        window = None;
                    }
                    if window.is_none() && random.percent(8) {
                        let cpu = random.percent(50).then_some(record.cpu).filter(|_| !any);
                        window = Some((cpu, 1 + random.below(4)));
                    }
                    let Some((cpu, left)) = &mut window else { return false };
                    *left -= 1;
                    cpu.is_none_or(|cpu| cpu == record.cpu)
                })
            }
            Self::OneKind(kind) => {
                let often = 10 + random.below(60);
                Box::new(move |_, record| record.kind == kind as u8 && random.percent(often))
            }
            Self::OneCpu => {
                let length = records.len().max(1);
                let cpu = random.below(CPUS) as u16;
                let from = random.below(length);
                let to = if random.percent(30) { length } else { from + 1 + random.below(length) };
                Box::new(move |number, record| record.cpu == cpu && (from..to).contains(&number))
            }
            Self::Unknown => {
                let often = 2 + random.below(20);
                Box::new(move |_, _| random.percent(often))
            }
        }
    }
}

/// Says of a record whether it gets lost.
type Choice<'a> = Box<dyn FnMut(usize, &Record) -> bool + 'a>;

struct Holes {
    kinds_known: bool,
    /// By CPU: what was lost of each kind since its last record.
    untold: Vec<Vec<(u8, u64)>>,
    lossy: Lossy,
}

impl Holes {
    fn lose(&mut self, number: usize, record: &Record) {
        self.lossy.missing.push(number as u32);
        let kind = if self.kinds_known { record.kind } else { 0 };
        let counts = &mut self.untold[usize::from(record.cpu)];
        match counts.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => counts.push((kind, 1)),
        }
    }

    fn tell(&mut self, cpu: u16, time: u64) {
        for (kind, value) in self.untold[usize::from(cpu)].drain(..) {
            let lost = Record { kind: Kind::Lost as u8, op: kind, value, cpu, time, ..Record::default() };
            self.lossy.records.push(lost);
        }
    }

    fn tell_uncounted(&mut self) {
        if self.untold.iter().any(|counts| !counts.is_empty()) {
            self.untold.iter_mut().for_each(Vec::clear);
            let lost = Record { kind: Kind::Lost as u8, cpu: Record::ANY_CPU, ..Record::default() };
            self.lossy.records.push(lost);
        }
    }
}

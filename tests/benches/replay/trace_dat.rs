//! The same records as a file of trace-cmd, version 6 of its format (trace-cmd.dat.v6(5)): what the drop-in's
//! tracepoints would have written, had ftrace recorded them.
//!
//! The fields of the events are those of `kernel/include/trace/events/lazy_mmu.h`. Records that these tracepoints do not
//! give (switches, faults, flushes of the TLB) are left out.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};

use lazymmu_abi::{Kind, Op, Record};

use crate::machine::{self, CPUS, Machine};
use crate::measure::Result;

const PAGE: usize = 4096;
const PAGE_HEADER: usize = 16;
/// The ids that the kernel would have given them.
const EVENTS: [(u16, &str); 4] =
    [(900, "lazy_mmu_read"), (901, "lazy_mmu_write"), (902, "lazy_mmu_rmw"), (903, "lazy_mmu_section")];

/// Writes the machine's first records. Returns how many events that are.
pub(crate) fn write(file: File, records: u64) -> Result<u64> {
    let mut out = BufWriter::new(file);
    preface(&mut out)?;
    let table = out.stream_position()?;
    out.write_all(&[0; 16 * CPUS as usize])?;
    let mut parts = Vec::new();
    let mut events = 0;
    // The file has one CPU after the other, so the machine runs once for each.
    for cpu in 0..CPUS {
        let start = out.stream_position()?.next_multiple_of(PAGE as u64);
        out.seek(SeekFrom::Start(start))?;
        let mut pages = Pages::new();
        let mut machine = Machine::new();
        let mut made = 0;
        while made < records {
            let batch = machine.next();
            made += batch.len() as u64;
            for record in batch.iter().filter(|record| record.cpu == cpu) {
                if let Some(event) = event(record) {
                    pages.add(&mut out, record.time, &event)?;
                    events += 1;
                }
            }
        }
        pages.end(&mut out)?;
        parts.push((start, out.stream_position()? - start));
    }
    out.seek(SeekFrom::Start(table))?;
    for (start, len) in parts {
        out.write_all(&start.to_le_bytes())?;
        out.write_all(&len.to_le_bytes())?;
    }
    out.flush()?;
    Ok(events)
}

/// All that stands before the data: how pages and events are laid out, symbols, names of tasks.
fn preface(out: &mut impl Write) -> Result<()> {
    out.write_all(b"\x17\x08\x44tracing6\0")?;
    // Little-endian, longs of eight bytes.
    out.write_all(&[0, 8])?;
    out.write_all(&(PAGE as u32).to_le_bytes())?;
    let page = "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\
                \tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n\
                \tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\
                \tfield: char data;\toffset:16;\tsize:4080;\tsigned:1;\n";
    let event = "# compressed entry header\n\ttype_len    :    5 bits\n\ttime_delta  :   27 bits\n\
                 \tarray       :   32 bits\n\n\tpadding     : type == 29\n\ttime_extend : type == 30\n\
                 \ttime_stamp : type == 31\n\tdata max type_len  == 28\n";
    for (name, text) in [("header_page", page), ("header_event", event)] {
        out.write_all(name.as_bytes())?;
        out.write_all(&[0])?;
        long_text(out, text)?;
    }
    // No formats of ftrace's own, one system of events.
    out.write_all(&0_u32.to_le_bytes())?;
    out.write_all(&1_u32.to_le_bytes())?;
    out.write_all(b"lazy_mmu\0")?;
    out.write_all(&(EVENTS.len() as u32).to_le_bytes())?;
    for (id, name) in EVENTS {
        long_text(out, &format(id, name))?;
    }
    let mut symbols = String::new();
    for (start, name) in machine::functions() {
        writeln!(symbols, "{start:x} T {name}")?;
    }
    short_text(out, &symbols)?;
    short_text(out, "")?;
    let mut tasks = String::new();
    for (cpu, task) in (0..CPUS).flat_map(|cpu| (0..3).map(move |task| (cpu, task))) {
        writeln!(tasks, "{} worker-", 1000 + cpu * 50 + task)?;
    }
    long_text(out, &tasks)?;
    out.write_all(&u32::from(CPUS).to_le_bytes())?;
    out.write_all(b"options  \0\0\0flyrecord\0")?;
    Ok(())
}

fn long_text(out: &mut impl Write, text: &str) -> Result<()> {
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    Ok(out.write_all(text.as_bytes())?)
}

fn short_text(out: &mut impl Write, text: &str) -> Result<()> {
    out.write_all(&(text.len() as u32).to_le_bytes())?;
    Ok(out.write_all(text.as_bytes())?)
}

/// What `events/lazy_mmu/NAME/format` of tracefs says.
fn format(id: u16, name: &str) -> String {
    let caller = ("unsigned long caller", 8);
    let op = ("unsigned int op", 4);
    let context = ("unsigned int context", 4);
    let (fields, text, arguments) = match name {
        "lazy_mmu_section" => (
            vec![caller, op, ("unsigned int enable_count", 4), ("unsigned int pause_count", 4), context],
            "enable_count=%d pause_count=%d",
            "(int)REC->enable_count, (int)REC->pause_count",
        ),
        "lazy_mmu_read" => (
            vec![("void * entry", 8), ("unsigned long val", 8), caller, op, context],
            "entry=%p val=0x%lx",
            "REC->entry, REC->val",
        ),
        _ => (
            vec![
                ("void * entry", 8),
                ("unsigned long val", 8),
                ("unsigned long addr", 8),
                caller,
                ("unsigned int nr", 4),
                op,
                context,
            ],
            "entry=%p val=0x%lx nr=%u addr=0x%lx",
            "REC->entry, REC->val, REC->nr, REC->addr",
        ),
    };
    let mut listed = COMMON_FIELDS.to_owned();
    let mut offset = 8;
    for (field, size) in fields {
        // Writing to a text does not fail.
        let _ = writeln!(listed, "\tfield:{field};\toffset:{offset};\tsize:{size};\tsigned:0;");
        offset += size;
    }
    let ops: Vec<_> = Op::ALL.iter().map(|op| format!("{{ {}, \"{}\" }}", *op as u8, op.name())).collect();
    let ops = ops.join(", ");
    format!(
        "name: {name}\nID: {id}\nformat:\n{listed}\nprint fmt: \"%s {text} context=%s caller=%pS\", \
         __print_symbolic(REC->op, {{ 0, \"none\" }}, {ops}), {arguments}, \
         __print_symbolic(REC->context, {{ 0, \"task\" }}, {{ 1, \"softirq\" }}, {{ 2, \"hardirq\" }}, {{ 3, \"nmi\" }}), \
         (void *)REC->caller\n"
    )
}

const COMMON_FIELDS: &str = "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
    \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
    \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
    \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n";

/// The event that a record would be; `None` if it comes from elsewhere.
fn event(record: &Record) -> Option<Vec<u8>> {
    let kind = Kind::try_from(record.kind).ok()?;
    let id = match kind {
        Kind::Read => 900_u16,
        Kind::Write => 901,
        Kind::Rmw => 902,
        Kind::Section => 903,
        _ => return None,
    };
    let mut out = Vec::with_capacity(56);
    out.extend(id.to_le_bytes());
    out.extend([0, 0]);
    out.extend(record.tid.to_le_bytes());
    let op = u32::from(record.op);
    let words: Vec<u32> = if kind == Kind::Section {
        out.extend(record.caller.to_le_bytes());
        vec![op, record.value as u32, record.memory as u32, 0]
    } else {
        out.extend(record.entry.to_le_bytes());
        out.extend(record.value.to_le_bytes());
        let rest = if kind == Kind::Read { vec![op, 0] } else { vec![u32::from(record.count), op, 0, 0] };
        if kind != Kind::Read {
            out.extend(0_u64.to_le_bytes());
        }
        out.extend(record.caller.to_le_bytes());
        rest
    };
    out.extend(words.into_iter().flat_map(u32::to_le_bytes));
    Some(out)
}

/// The pages of one CPU's ring buffer.
struct Pages {
    page: Vec<u8>,
    /// Of the last event.
    time: u64,
}

impl Pages {
    fn new() -> Self {
        Self { page: Vec::with_capacity(PAGE), time: 0 }
    }

    /// Adds an event: a word with its length and the time since the last one, then its bytes.
    fn add(&mut self, out: &mut impl Write, time: u64, event: &[u8]) -> Result<()> {
        let delta = time.saturating_sub(self.time);
        if self.page.len() + 4 + event.len() > PAGE || delta >= 1 << 27 {
            self.end(out)?;
        }
        if self.page.is_empty() {
            self.page.extend(time.to_le_bytes());
            self.page.extend([0; 8]);
            self.time = time;
        }
        let words = (event.len() / 4) as u32;
        let delta = (time - self.time) as u32;
        self.page.extend((words | delta << 5).to_le_bytes());
        self.page.extend(event);
        self.time = time;
        Ok(())
    }

    /// Writes the page, if there is something on it, with the number of its bytes.
    fn end(&mut self, out: &mut impl Write) -> Result<()> {
        if self.page.is_empty() {
            return Ok(());
        }
        let len = (self.page.len() - PAGE_HEADER) as u64;
        self.page[8..PAGE_HEADER].copy_from_slice(&len.to_le_bytes());
        self.page.resize(PAGE, 0);
        out.write_all(&self.page)?;
        self.page.clear();
        Ok(())
    }
}

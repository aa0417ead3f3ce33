//! Opens a trace: checks that it is one, and gathers all that stands beside its records.

use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::path::Path;

use crate::block::Type;
use crate::damage::{self, Damage, Fault, Hole};
use crate::format::{PRELUDE_LEN, Prelude};
use crate::records::Records;
use crate::side::Gatherer;
use crate::walk::{Placed, Source, Step, Walker};
use crate::{Counters, Header, Index, ReadError, Symbols, Version};

/// All that a trace says beside its records.
#[derive(Clone, Debug)]
pub struct About {
    /// The format's version.
    pub version: Version,
    /// Which machine, which kernel, which hooks.
    pub header: Header,
    /// Every stack of the trace and the names of its addresses.
    pub symbols: Symbols,
    /// The last state of the kernel side's counters.
    pub counters: Counters,
    /// How many records its blocks hold.
    pub records: u64,
    /// Bytes of the file.
    pub bytes: u64,
    index: Option<Index>,
    damage: Option<Damage>,
}

/// A trace that is open for reading.
pub struct Reader<R> {
    /// What it says beside its records.
    pub about: About,
    /// Its records. Apart from `about`, so that each can be borrowed by itself.
    pub records: Records<R>,
}

impl Reader<File> {
    /// Opens a trace file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        let name = path.as_ref().display().to_string();
        let file = File::open(path).map_err(|source| ReadError::Open { name: name.clone(), source })?;
        Self::new(name, file)
    }
}

impl<'a> Reader<Cursor<&'a [u8]>> {
    /// Reads a trace that is in memory.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, ReadError> {
        Self::new("in memory", Cursor::new(bytes))
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Reads a trace; `name` is for messages.
    pub fn new(name: impl Into<String>, inner: R) -> Result<Self, ReadError> {
        let mut source = Source::new(name.into(), inner)?;
        let mut prelude = [0; PRELUDE_LEN];
        let got = source.read_at(0, &mut prelude)?;
        let version = Prelude::parse(source.name(), prelude.get(..got).unwrap_or_default())?;
        let mut walker = Walker::new(source, PRELUDE_LEN as u64)?;
        let header = read_header(&mut walker)?;

        let start = walker.place();
        let about = Survey::new(version, header, walker.source().len()).run(&mut walker)?;
        walker.go_back(start);
        Ok(Self { about, records: Records::new(walker) })
    }

    /// See [`Records::next_batch`].
    pub fn next_batch(&mut self) -> Result<Option<&[lazymmu_abi::Record]>, ReadError> {
        self.records.next_batch()
    }

    /// What is wrong with the file. All that can be seen without decompressing records is known at once, the rest when
    /// the records have been read. What happens to the file after it was opened shows in the records' stand-ins.
    pub fn damage(&self) -> Option<Damage> {
        damage::both(self.about.damage, self.records.damage())
    }

    /// The index by time and CPU. A trace that was not finished has none: then all records are read to make it. Either
    /// way reading starts again at the first record.
    pub fn index(&mut self) -> Result<&Index, ReadError> {
        self.records.rewind();
        let index = match self.about.index.take() {
            Some(index) => index,
            None => self.records.rebuild_index()?,
        };
        Ok(self.about.index.insert(index))
    }
}

fn read_header<R: Read + Seek>(walker: &mut Walker<R>) -> Result<Header, ReadError> {
    let name = walker.source().name().to_owned();
    let refuse = |what: &str| ReadError::Header { name: name.clone(), what: what.to_owned() };
    let block = match walker.next()? {
        Step::Block(block) if block.header.block_type == Type::Header as u8 => block,
        Step::Hole(Hole { fault: Fault::Torn | Fault::Unfinished, .. }) => {
            return Err(refuse("the file ends within it"));
        }
        _ => return Err(refuse("it is damaged")),
    };
    let mut raw = vec![0; block.header.raw_len as usize];
    if let Err(fault) = walker.load(&block, &mut raw)? {
        return Err(refuse(&fault.to_string()));
    }
    let header: Header = serde_json::from_slice(&raw).map_err(|error| refuse(&error.to_string()))?;
    header.check().map_err(|what| refuse(&what))?;
    Ok(header)
}

/// The first pass over a trace: everything but the records, which it only counts.
struct Survey {
    about: About,
    gatherer: Gatherer,
    raw: Vec<u8>,
}

impl Survey {
    fn new(version: Version, header: Header, bytes: u64) -> Self {
        let about = About {
            version,
            header,
            symbols: Symbols::default(),
            counters: Counters::default(),
            records: 0,
            bytes,
            index: None,
            damage: None,
        };
        Self { about, gatherer: Gatherer::new(), raw: Vec::new() }
    }

    fn run<R: Read + Seek>(mut self, walker: &mut Walker<R>) -> Result<About, ReadError> {
        loop {
            match walker.next()? {
                Step::End => break,
                Step::Hole(hole) => self.damaged(hole),
                Step::Block(block) => {
                    if let Err(fault) = self.block(walker, &block)? {
                        self.damaged(block.hole(fault));
                    }
                }
            }
        }
        self.about.symbols = self.gatherer.symbols;
        Ok(self.about)
    }

    fn damaged(&mut self, hole: Hole) {
        damage::add(&mut self.about.damage, hole, self.about.bytes);
    }

    fn block<R: Read + Seek>(
        &mut self,
        walker: &mut Walker<R>,
        block: &Placed,
    ) -> Result<Result<(), Fault>, ReadError> {
        let kind = match Type::from_code(block.header.block_type) {
            Some(Type::Records) => {
                self.about.records = self.about.records.saturating_add(block.header.records());
                return Ok(Ok(()));
            }
            Some(kind) => kind,
            None if self.about.version.minor > Version::CURRENT.minor => return Ok(Ok(())),
            None => return Ok(Err(Fault::Content)),
        };
        self.raw.resize(block.header.raw_len as usize, 0);
        if let Err(fault) = walker.load(block, &mut self.raw)? {
            return Ok(Err(fault));
        }
        Ok(self.content(kind, block.header.items))
    }

    fn content(&mut self, kind: Type, items: u32) -> Result<(), Fault> {
        let whole = match kind {
            Type::Stacks => {
                self.gatherer.stacks(&self.raw).map_err(|_| Fault::TooManyCallPaths)? == Some(items)
            }
            Type::Frames => {
                self.gatherer.frames(&self.raw).map_err(|_| Fault::TooManyCallPaths)? == Some(items)
            }
            Type::Counters => match serde_json::from_slice(&self.raw) {
                Ok(counters) => {
                    self.about.counters = counters;
                    true
                }
                Err(_) => false,
            },
            Type::Index => {
                self.about.index = Index::from_bytes(&self.raw, items);
                self.about.index.is_some()
            }
            // There is one header, and it was read; records are not decompressed here.
            Type::Header | Type::Records => false,
        };
        if whole { Ok(()) } else { Err(Fault::Content) }
    }
}

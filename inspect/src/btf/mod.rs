//! A reader for BTF, the kernel's compact type information (`/sys/kernel/btf/vmlinux`).
//!
//! It answers the few questions that a capture has to ask before it loads a program: where a member stands in a
//! struct, whether a tracepoint exists and what it passes, whether there is a function of some name. It does not
//! write BTF, does not read the split BTF of modules, and does not turn types into C.
//!
//! The format is that of include/uapi/linux/btf.h. 7.2 widened the fields of `btf_type.info` into bits that were
//! zero before and added a table with the layout of each kind; both are read here, so an older reader's limits
//! do not apply and a kind of the future is stepped over.

mod parse;
mod pointers;
#[cfg(test)]
pub(crate) mod tests;

use std::path::{Path, PathBuf};

use self::parse::{Kind, Layout, Member, Type};
pub use self::pointers::{Pointee, PointerStruct, PointerTypes, Signature};

/// Where a kernel with `CONFIG_DEBUG_INFO_BTF` publishes its own BTF.
pub const RUNNING_KERNEL: &str = "/sys/kernel/btf/vmlinux";

/// Typedefs and qualifiers in a row, or anonymous members inside each other: far beyond any C program.
const MAX_DEPTH: u32 = 64;
/// Members looked at in one search. `task_struct` with all that it embeds has about a thousand.
const MAX_STEPS: u32 = 1 << 20;

/// Why BTF could not be read, or a question about it not be answered.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file is not there: a kernel without BTF, or a wrong path.
    #[error("read type information from {}: no such file; the kernel must be built with CONFIG_DEBUG_INFO_BTF=y", .0.display())]
    Missing(PathBuf),
    /// The file is there and could not be read.
    #[error("read type information from {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are not BTF, or not of a version that this reader knows.
    #[error("read BTF: {0}")]
    NotBtf(&'static str),
    /// The bytes begin like BTF and contradict themselves.
    #[error("read BTF: malformed at byte {at}: {what}")]
    Malformed {
        /// Offset in the bytes given.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// A member was asked for that is a bit field, which has no byte offset.
    #[error("take the byte offset of {member} in struct {outer}: it is a bit field")]
    BitField {
        /// The struct that was asked about.
        outer: String,
        /// The path that was asked for.
        member: String,
    },
    /// A path leads through a member that is no struct, for example a pointer.
    #[error("find {member} in struct {outer}: {part} is no struct or union, so nothing is embedded in it")]
    NotEmbedded {
        /// The struct that was asked about.
        outer: String,
        /// The path that was asked for.
        member: String,
        /// The part of the path that has no members.
        part: String,
    },
}

type Result<T> = std::result::Result<T, BtfError>;

/// The type information of one kernel.
#[derive(Debug)]
pub struct Btf {
    layout: Layout,
    /// Where each type begins in the bytes; type id 1 is the first.
    starts: Vec<u32>,
}

/// One argument that a tracepoint hands to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Its size in bytes.
    pub size: u32,
    /// Whether it is a pointer.
    pub pointer: bool,
}

/// A member that was found: where, counted in bits from the struct that was asked about, and of what type.
#[derive(Clone, Copy, Debug)]
struct Found {
    bit_offset: u32,
    bit_field: bool,
    type_id: u32,
}

impl Btf {
    /// Reads a file of raw BTF, such as [`RUNNING_KERNEL`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => BtfError::Missing(path.to_owned()),
            _ => BtfError::Io { path: path.to_owned(), source },
        })?;
        Self::from_bytes(bytes)
    }

    /// Takes raw BTF: the contents of `/sys/kernel/btf/vmlinux` or of a `.BTF` section.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        let layout = Layout::new(bytes)?;
        let starts = layout.starts()?;
        Ok(Self { layout, starts })
    }

    /// How many types there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is no type at all.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The offset in bytes of a member, given as a path like `lazy_mmu_state.enable_count`. Anonymous structs
    /// and unions are looked through, as C does. `None` if there is no such struct or no such member.
    pub fn member_offset(&self, outer: &str, member: &str) -> Result<Option<u32>> {
        let Some(found) = self.find_member(outer, member)? else { return Ok(None) };
        if found.bit_field || found.bit_offset % 8 != 0 {
            return Err(BtfError::BitField { outer: outer.to_owned(), member: member.to_owned() });
        }
        Ok(Some(found.bit_offset / 8))
    }

    /// The size in bytes of a member, given as for [`Btf::member_offset`].
    pub fn member_size(&self, outer: &str, member: &str) -> Result<Option<u32>> {
        let Some(found) = self.find_member(outer, member)? else { return Ok(None) };
        if found.bit_field {
            return Err(BtfError::BitField { outer: outer.to_owned(), member: member.to_owned() });
        }
        self.size_of(found.type_id, 0).map(Some)
    }

    /// The size in bytes of a struct; `None` if there is none of that name.
    pub fn struct_size(&self, name: &str) -> Result<Option<u32>> {
        Ok(self.find(Kind::Struct, name)?.map(|ty| ty.size_or_id))
    }

    /// Whether a typedef has this name. A tracepoint `x` of the kernel has one called `btf_trace_x`.
    pub fn has_typedef(&self, name: &str) -> Result<bool> {
        Ok(self.find(Kind::Typedef, name)?.is_some())
    }

    /// Whether a struct has this name.
    pub fn has_struct(&self, name: &str) -> Result<bool> {
        Ok(self.find(Kind::Struct, name)?.is_some())
    }

    /// Whether a function has this name. BTF leaves some functions out (those whose prototype is not the same
    /// everywhere), so `false` is no proof that the kernel has none.
    pub fn has_function(&self, name: &str) -> Result<bool> {
        Ok(self.find(Kind::Func, name)?.is_some())
    }

    /// What the tracepoint `name` passes to a program attached to it, in order; `None` if there is no such
    /// tracepoint. This is `typedef void (*btf_trace_NAME)(void *__data, ...)` without `__data`
    /// (include/trace/bpf_probe.h, 6.12 and 7.2).
    pub fn tracepoint_arguments(&self, name: &str) -> Result<Option<Vec<Argument>>> {
        let Some(typedef) = self.find(Kind::Typedef, &format!("btf_trace_{name}"))? else { return Ok(None) };
        let pointer = self.resolve(typedef.size_or_id)?;
        let proto = match pointer.kind {
            Some(Kind::Ptr) => self.resolve(pointer.size_or_id)?,
            _ => return Err(pointer.malformed("the typedef of a tracepoint is no pointer")),
        };
        if proto.kind != Some(Kind::FuncProto) {
            return Err(proto.malformed("the typedef of a tracepoint points to no function"));
        }
        self.arguments(&proto, 1).map(Some)
    }

    /// What a function of this name takes, in order; `None` if BTF knows of none, as for [`Btf::has_function`].
    pub fn function_arguments(&self, name: &str) -> Result<Option<Vec<Argument>>> {
        let Some(function) = self.find(Kind::Func, name)? else { return Ok(None) };
        let proto = self.resolve(function.size_or_id)?;
        if proto.kind != Some(Kind::FuncProto) {
            return Err(proto.malformed("a function has no prototype"));
        }
        self.arguments(&proto, 0).map(Some)
    }

    fn arguments(&self, proto: &Type, from: u32) -> Result<Vec<Argument>> {
        let mut arguments = Vec::new();
        for index in from..proto.vlen {
            let type_id = self.layout.param_type(proto, index)?;
            let pointer = self.resolve(type_id)?.kind == Some(Kind::Ptr);
            arguments.push(Argument { size: self.size_of(type_id, 0)?, pointer });
        }
        Ok(arguments)
    }

    fn type_by_id(&self, id: u32) -> Result<Type> {
        // Id 0 is void, which has no record.
        let index = (id as usize).checked_sub(1).and_then(|index| self.starts.get(index));
        match index {
            Some(start) => self.layout.type_at(*start as usize),
            None => Err(BtfError::Malformed { at: 0, what: "a type refers to an id that does not exist" }),
        }
    }

    /// The first type of this kind and name.
    fn find(&self, kind: Kind, name: &str) -> Result<Option<Type>> {
        for start in &self.starts {
            let ty = self.layout.type_at(*start as usize)?;
            if ty.kind == Some(kind) && self.layout.name_is(&ty, name) {
                return Ok(Some(ty));
            }
        }
        Ok(None)
    }

    /// Follows typedefs, qualifiers and tags.
    fn resolve(&self, id: u32) -> Result<Type> {
        let mut ty = self.type_by_id(id)?;
        for _ in 0..MAX_DEPTH {
            if !ty.kind.is_some_and(Kind::is_alias) {
                return Ok(ty);
            }
            ty = self.type_by_id(ty.size_or_id)?;
        }
        Err(ty.malformed("typedefs without an end"))
    }

    fn size_of(&self, id: u32, depth: u32) -> Result<u32> {
        let ty = self.resolve(id)?;
        match ty.kind {
            Some(Kind::Ptr) => Ok(8),
            Some(Kind::Array) if depth < MAX_DEPTH => {
                let (element, count) = self.layout.array(&ty)?;
                let size = self.size_of(element, depth + 1)?.checked_mul(count);
                size.ok_or_else(|| ty.malformed("an array larger than 4 GiB"))
            }
            Some(Kind::Int | Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Float) => {
                Ok(ty.size_or_id)
            }
            _ => Err(ty.malformed("a type without a size where one is needed")),
        }
    }

    fn find_member(&self, outer: &str, path: &str) -> Result<Option<Found>> {
        let Some(mut ty) = self.find(Kind::Struct, outer)? else { return Ok(None) };
        let mut steps = MAX_STEPS;
        let mut base = 0u32;
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            let Some(mut found) = self.find_in(&ty, part, 0, &mut steps)? else { return Ok(None) };
            found.bit_offset = add(base, found.bit_offset, &ty)?;
            if parts.peek().is_none() {
                return Ok(Some(found));
            }
            base = found.bit_offset;
            ty = self.resolve(found.type_id)?;
            if !ty.is_composite() {
                return Err(BtfError::NotEmbedded {
                    outer: outer.to_owned(),
                    member: path.to_owned(),
                    part: part.to_owned(),
                });
            }
        }
        Ok(None)
    }

    /// Looks for a member by its name in one struct or union and in the anonymous ones inside it.
    fn find_in(&self, ty: &Type, name: &str, depth: u32, steps: &mut u32) -> Result<Option<Found>> {
        for index in 0..ty.vlen {
            *steps = steps.checked_sub(1).ok_or_else(|| ty.malformed("structs without an end"))?;
            let member = self.layout.member(ty, index)?;
            if member.name == 0 {
                let inner = self.resolve(member.type_id)?;
                // An unnamed bit field is padding and has nothing inside.
                if inner.is_composite() {
                    if depth == MAX_DEPTH {
                        return Err(ty.malformed("structs without an end"));
                    }
                    if let Some(mut found) = self.find_in(&inner, name, depth + 1, steps)? {
                        found.bit_offset = add(member.bit_offset, found.bit_offset, ty)?;
                        return Ok(Some(found));
                    }
                }
            } else if self.layout.string_is(member.name, name) {
                let Member { bit_offset, bit_field, type_id, .. } = member;
                return Ok(Some(Found { bit_offset, bit_field, type_id }));
            }
        }
        Ok(None)
    }
}

fn add(a: u32, b: u32, ty: &Type) -> Result<u32> {
    a.checked_add(b).ok_or_else(|| ty.malformed("a member beyond 512 MiB"))
}

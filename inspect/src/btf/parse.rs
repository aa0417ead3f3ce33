//! The bytes of BTF: header, type records, strings. It knows the layout and nothing of what types mean.

use super::{BtfError, Result};

/// Bytes of `struct btf_type`.
const TYPE: usize = 12;
/// `btf_header.magic`, as the first two bytes of a little-endian and of a big-endian kernel.
const MAGIC_LITTLE: [u8; 2] = [0x9f, 0xeb];
const MAGIC_BIG: [u8; 2] = [0xeb, 0x9f];
/// Bytes of the header up to and with `str_len`; 7.2 adds `layout_off` and `layout_len`.
const HEADER: usize = 24;
const HEADER_WITH_LAYOUT: usize = 32;

/// `BTF_KIND_*`. Kinds that this reader only has to step over are here as well: it must know their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    Datasec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
}

impl Kind {
    const ALL: [Kind; 19] = [
        Kind::Int,
        Kind::Ptr,
        Kind::Array,
        Kind::Struct,
        Kind::Union,
        Kind::Enum,
        Kind::Fwd,
        Kind::Typedef,
        Kind::Volatile,
        Kind::Const,
        Kind::Restrict,
        Kind::Func,
        Kind::FuncProto,
        Kind::Var,
        Kind::Datasec,
        Kind::Float,
        Kind::DeclTag,
        Kind::TypeTag,
        Kind::Enum64,
    ];

    fn from_code(code: u32) -> Option<Self> {
        Self::ALL.get((code as usize).checked_sub(1)?).copied()
    }

    /// Whether the type is another one under a name or with a qualifier.
    pub(super) fn is_alias(self) -> bool {
        matches!(self, Kind::Typedef | Kind::Volatile | Kind::Const | Kind::Restrict | Kind::TypeTag)
    }

    /// Bytes after `struct btf_type`: once, and for each of its `vlen` elements.
    fn extra(self) -> (usize, usize) {
        match self {
            Kind::Int | Kind::Var | Kind::DeclTag => (4, 0),
            Kind::Array => (12, 0),
            Kind::Struct | Kind::Union | Kind::Datasec | Kind::Enum64 => (0, 12),
            Kind::Enum | Kind::FuncProto => (0, 8),
            Kind::Ptr
            | Kind::Fwd
            | Kind::Typedef
            | Kind::Volatile
            | Kind::Const
            | Kind::Restrict
            | Kind::Func
            | Kind::Float
            | Kind::TypeTag => (0, 0),
        }
    }
}

/// A type record, decoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Type {
    /// Where it begins in the bytes.
    at: usize,
    pub(super) name: u32,
    /// `None` for a kind that this reader does not know.
    pub(super) kind: Option<Kind>,
    pub(super) vlen: u32,
    kind_flag: bool,
    /// A size in bytes or a type id, as the kind has it.
    pub(super) size_or_id: u32,
}

impl Type {
    pub(super) fn is_composite(&self) -> bool {
        matches!(self.kind, Some(Kind::Struct | Kind::Union))
    }

    pub(super) fn malformed(&self, what: &'static str) -> BtfError {
        BtfError::Malformed { at: self.at, what }
    }
}

/// A member of a struct or union.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// Offset of its name in the strings; 0 for an anonymous one.
    pub(super) name: u32,
    pub(super) type_id: u32,
    pub(super) bit_offset: u32,
    pub(super) bit_field: bool,
}

/// The bytes and where their parts begin and end.
#[derive(Debug)]
pub(super) struct Layout {
    bytes: Vec<u8>,
    big_endian: bool,
    types: std::ops::Range<usize>,
    strings: std::ops::Range<usize>,
    /// The table with the layout of each kind (7.2 and later), empty before.
    kinds: std::ops::Range<usize>,
}

impl Layout {
    pub(super) fn new(bytes: Vec<u8>) -> Result<Self> {
        let big_endian = match bytes.first_chunk::<2>() {
            Some(&MAGIC_LITTLE) => false,
            Some(&MAGIC_BIG) => true,
            _ => return Err(BtfError::NotBtf("the first bytes are not those of BTF")),
        };
        if bytes.len() < HEADER {
            return Err(BtfError::NotBtf("it ends within the header"));
        }
        if bytes[2] != 1 {
            return Err(BtfError::NotBtf("its version is not 1, the only one that this lazymmu knows"));
        }
        let mut layout = Self { bytes, big_endian, types: 0..0, strings: 0..0, kinds: 0..0 };
        let header = layout.u32(4)? as usize;
        if header < HEADER {
            return Err(BtfError::NotBtf("its header is too short"));
        }
        layout.types = layout.part(header, 8)?;
        layout.strings = layout.part(header, 16)?;
        if header >= HEADER_WITH_LAYOUT {
            layout.kinds = layout.part(header, 24)?;
        }
        Ok(layout)
    }

    /// The range that an offset and a length in the header tell.
    fn part(&self, header: usize, field: usize) -> Result<std::ops::Range<usize>> {
        let start = header.checked_add(self.u32(field)? as usize);
        let end = start.and_then(|start| start.checked_add(self.u32(field + 4).ok()? as usize));
        match (start, end) {
            (Some(start), Some(end)) if end <= self.bytes.len() => Ok(start..end),
            _ => Err(BtfError::Malformed { at: field, what: "a part reaches beyond the end" }),
        }
    }

    /// Where each type record begins.
    pub(super) fn starts(&self) -> Result<Vec<u32>> {
        let mut starts = Vec::new();
        let mut at = self.types.start;
        while at < self.types.end {
            let ty = self.type_at(at)?;
            let (once, each) = match ty.kind {
                Some(kind) => kind.extra(),
                None => self.extra_of_unknown(&ty)?,
            };
            let end = (ty.vlen as usize).checked_mul(each).and_then(|len| len.checked_add(at + TYPE + once));
            let end = end.filter(|end| *end <= self.types.end);
            let start = u32::try_from(at).map_err(|_| ty.malformed("types beyond 4 GiB"))?;
            starts.push(start);
            at = end.ok_or_else(|| ty.malformed("a type reaches beyond the end"))?;
        }
        Ok(starts)
    }

    /// What `struct btf_layout` of 7.2 says about a kind that this reader does not know.
    fn extra_of_unknown(&self, ty: &Type) -> Result<(usize, usize)> {
        let code = (self.u32(ty.at + 4)? >> 24) & 0x7f;
        let entry = self.bytes[self.kinds.clone()].chunks_exact(4).nth(code as usize);
        match entry {
            Some(entry) if code != 0 => Ok((usize::from(entry[0]), usize::from(entry[1]))),
            _ => Err(ty.malformed("a kind of type that this lazymmu does not know")),
        }
    }

    pub(super) fn type_at(&self, at: usize) -> Result<Type> {
        let info = self.u32(at + 4)?;
        Ok(Type {
            at,
            name: self.u32(at)?,
            kind: Kind::from_code((info >> 24) & 0x7f),
            vlen: info & 0xff_ffff,
            kind_flag: info >> 31 != 0,
            size_or_id: self.u32(at + 8)?,
        })
    }

    pub(super) fn member(&self, ty: &Type, index: u32) -> Result<Member> {
        let at = ty.at + TYPE + index as usize * 12;
        let offset = self.u32(at + 8)?;
        // With the flag the top byte is the width of a bit field, 0 for a member that is none.
        let (bit_offset, bit_field) =
            if ty.kind_flag { (offset & 0xff_ffff, offset >> 24 != 0) } else { (offset, false) };
        Ok(Member { name: self.u32(at)?, type_id: self.u32(at + 4)?, bit_offset, bit_field })
    }

    pub(super) fn param_type(&self, ty: &Type, index: u32) -> Result<u32> {
        self.u32(ty.at + TYPE + index as usize * 8 + 4)
    }

    /// Element type and number of elements.
    pub(super) fn array(&self, ty: &Type) -> Result<(u32, u32)> {
        Ok((self.u32(ty.at + TYPE)?, self.u32(ty.at + TYPE + 8)?))
    }

    pub(super) fn name_is(&self, ty: &Type, name: &str) -> bool {
        self.string_is(ty.name, name)
    }

    /// Whether the string at this offset is `text`. An offset outside the strings is no name.
    pub(super) fn string_is(&self, offset: u32, text: &str) -> bool {
        let strings = &self.bytes[self.strings.clone()];
        let Some(rest) = strings.get(offset as usize..) else { return false };
        rest.strip_prefix(text.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }

    /// The string at this offset, if it is one and not empty.
    pub(super) fn string(&self, offset: u32) -> Option<String> {
        let rest = self.bytes[self.strings.clone()].get(offset as usize..)?;
        let len = rest.iter().position(|byte| *byte == 0).filter(|len| *len > 0)?;
        String::from_utf8(rest[..len].to_vec()).ok()
    }

    fn u32(&self, at: usize) -> Result<u32> {
        let word = self.bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
        let word = word.ok_or(BtfError::Malformed { at, what: "it ends here" })?;
        Ok(if self.big_endian { u32::from_be_bytes(*word) } else { u32::from_le_bytes(*word) })
    }
}

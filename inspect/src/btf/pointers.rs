//! Who holds or hands on pointers to page-table entries: members of structures, parameters and results of functions. That
//! is what it takes to follow such a pointer through code.

use lazymmu_abi::Level;
use rustc_hash::{FxHashMap, FxHashSet};

use super::parse::{Kind, Type};
use super::{Btf, MAX_DEPTH, Result, add};

/// What a pointer points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pointee {
    /// A page-table entry.
    Entry(Level),
    /// A pointer to an entry: where a function leaves such a pointer for its caller.
    Pointer(Level),
    /// A structure that has pointers to entries, as an index into [`PointerTypes::structs`].
    Struct(u16),
}

/// A structure that has pointers to entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointerStruct {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u32,
    /// Its members that are such pointers: offset in bytes, and level.
    pub members: Vec<(u32, Level)>,
}

/// What a function takes and gives, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// Its parameters, in order; `None` for those of no interest.
    pub parameters: Vec<Option<Pointee>>,
    /// Its result.
    pub result: Option<Pointee>,
}

/// All of them in one kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PointerTypes {
    /// The structures.
    pub structs: Vec<PointerStruct>,
    /// The functions that take or give such pointers, by name. A name that several of them have is left out.
    pub functions: FxHashMap<String, Signature>,
    /// Where in `pv_ops` the functions stand that keep every register but that of their result.
    pub sparing: Vec<u32>,
}

impl Btf {
    /// Collects them.
    pub fn pointer_types(&self) -> Result<PointerTypes> {
        let mut found = PointerTypes::default();
        // The structures by the number of their type.
        let mut ids: FxHashMap<u32, u16> = FxHashMap::default();
        for (index, start) in self.starts.iter().enumerate() {
            let ty = self.layout.type_at(*start as usize)?;
            if ty.kind != Some(Kind::Struct) {
                continue;
            }
            let mut members = Vec::new();
            for number in 0..ty.vlen {
                let member = self.layout.member(&ty, number)?;
                if let Some(level) = self.entry_pointer(member.type_id)?
                    && !member.bit_field
                    && member.bit_offset % 8 == 0
                {
                    members.push((member.bit_offset / 8, level));
                }
            }
            if !members.is_empty()
                && let Ok(number) = u16::try_from(found.structs.len())
            {
                let name = self.layout.string(ty.name).unwrap_or_default();
                found.structs.push(PointerStruct { name, size: ty.size_or_id, members });
                ids.insert(index as u32 + 1, number);
            }
        }
        let mut seen: FxHashSet<String> = FxHashSet::default();
        for start in &self.starts {
            let ty = self.layout.type_at(*start as usize)?;
            if ty.kind != Some(Kind::Func) {
                continue;
            }
            let Some(signature) = self.signature(&ty, &ids)? else { continue };
            let Some(name) = self.layout.string(ty.name) else { continue };
            if seen.insert(name.clone()) {
                found.functions.insert(name, signature);
            } else {
                found.functions.remove(&name);
            }
        }
        self.sparing(&mut found.sparing)?;
        Ok(found)
    }

    /// The members of type `struct paravirt_callee_save` (arch/x86/include/asm/paravirt_types.h), two structures deep.
    fn sparing(&self, found: &mut Vec<u32>) -> Result<()> {
        let Some(all) = self.find(Kind::Struct, "paravirt_patch_template")? else { return Ok(()) };
        for outer in 0..all.vlen {
            let outer = self.layout.member(&all, outer)?;
            let ops = self.resolve(outer.type_id)?;
            for inner in 0..if ops.is_composite() { ops.vlen } else { 0 } {
                let inner = self.layout.member(&ops, inner)?;
                let Some(ty) = self.resolve_or_void(inner.type_id)? else { continue };
                if self.layout.name_is(&ty, "paravirt_callee_save") {
                    found.push(add(outer.bit_offset, inner.bit_offset, &ops)? / 8);
                }
            }
        }
        Ok(())
    }

    fn signature(&self, function: &Type, structs: &FxHashMap<u32, u16>) -> Result<Option<Signature>> {
        let proto = self.resolve(function.size_or_id)?;
        if proto.kind != Some(Kind::FuncProto) {
            return Ok(None);
        }
        let mut signature = Signature::default();
        for index in 0..proto.vlen {
            let id = self.layout.param_type(&proto, index)?;
            signature.parameters.push(self.pointee(id, structs)?);
        }
        signature.result = self.pointee(proto.size_or_id, structs)?;
        let any = signature.result.is_some() || signature.parameters.iter().any(Option::is_some);
        Ok(any.then_some(signature))
    }

    fn pointee(&self, id: u32, structs: &FxHashMap<u32, u16>) -> Result<Option<Pointee>> {
        if let Some(level) = self.entry_pointer(id)? {
            return Ok(Some(Pointee::Entry(level)));
        }
        let Some(to) = self.pointed_to(id)? else { return Ok(None) };
        if let Some(level) = self.entry_pointer(to)? {
            return Ok(Some(Pointee::Pointer(level)));
        }
        // Through qualifiers and typedefs, to the number of the structure itself.
        let mut id = to;
        for _ in 0..MAX_DEPTH {
            if let Some(number) = structs.get(&id) {
                return Ok(Some(Pointee::Struct(*number)));
            }
            if id == 0 {
                break;
            }
            let ty = self.type_by_id(id)?;
            match ty.kind {
                Some(kind) if kind.is_alias() => id = ty.size_or_id,
                _ => break,
            }
        }
        Ok(None)
    }

    /// What a pointer points to, as the number of a type; `None` for what is no pointer.
    fn pointed_to(&self, id: u32) -> Result<Option<u32>> {
        if id == 0 {
            return Ok(None);
        }
        let ty = self.resolve_or_void(id)?;
        Ok(ty.filter(|ty| ty.kind == Some(Kind::Ptr)).map(|ty| ty.size_or_id))
    }

    /// The level, if this is a pointer to `pte_t`, `pmd_t` or `pud_t`.
    fn entry_pointer(&self, id: u32) -> Result<Option<Level>> {
        let Some(mut id) = self.pointed_to(id)? else { return Ok(None) };
        for _ in 0..MAX_DEPTH {
            if id == 0 {
                break;
            }
            let ty = self.type_by_id(id)?;
            if ty.kind == Some(Kind::Typedef) {
                let levels = [("pte_t", Level::Pte), ("pmd_t", Level::Pmd), ("pud_t", Level::Pud)];
                let found = levels.iter().find(|(name, _)| self.layout.name_is(&ty, name));
                return Ok(found.map(|(_, level)| *level));
            }
            match ty.kind {
                Some(kind) if kind.is_alias() => id = ty.size_or_id,
                _ => break,
            }
        }
        Ok(None)
    }

    /// As [`Btf::resolve`]; `None` where the chain ends in void.
    fn resolve_or_void(&self, mut id: u32) -> Result<Option<Type>> {
        for _ in 0..MAX_DEPTH {
            if id == 0 {
                return Ok(None);
            }
            let ty = self.type_by_id(id)?;
            if !ty.kind.is_some_and(Kind::is_alias) {
                return Ok(Some(ty));
            }
            id = ty.size_or_id;
        }
        Ok(None)
    }
}

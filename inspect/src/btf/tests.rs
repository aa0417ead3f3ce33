//! BTF that is made here, whole and damaged.

use proptest::prelude::*;

use super::{Argument, Btf, BtfError};

/// Writes BTF, little-endian. Types are numbered from 1 in the order in which they are added.
#[derive(Default)]
pub(crate) struct Builder {
    types: Vec<u32>,
    strings: Vec<u8>,
    /// `(once, each)` by kind, written as the layout table of 7.2 if there is any.
    kinds: Vec<(u8, u8)>,
    count: u32,
}

impl Builder {
    fn name(&mut self, name: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len();
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        u32::try_from(at).unwrap()
    }

    fn add(&mut self, name: &str, info: u32, size_or_id: u32, extra: &[u32]) -> u32 {
        let name = self.name(name);
        self.types.extend_from_slice(&[name, info, size_or_id]);
        self.types.extend_from_slice(extra);
        self.count += 1;
        self.count
    }

    pub(crate) fn int(&mut self, name: &str, size: u32) -> u32 {
        self.add(name, 1 << 24, size, &[size * 8])
    }

    pub(crate) fn pointer(&mut self, to: u32) -> u32 {
        self.add("", 2 << 24, to, &[])
    }

    pub(crate) fn array(&mut self, of: u32, count: u32) -> u32 {
        self.add("", 3 << 24, 0, &[of, of, count])
    }

    /// Members are name, type, bit offset.
    pub(crate) fn composite(
        &mut self,
        name: &str,
        info: u32,
        size: u32,
        members: &[(&str, u32, u32)],
    ) -> u32 {
        let members: Vec<u32> =
            members.iter().flat_map(|(name, ty, offset)| [self.name(name), *ty, *offset]).collect();
        self.add(name, info | u32::try_from(members.len() / 3).unwrap(), size, &members)
    }

    pub(crate) fn strukt(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        self.composite(name, 4 << 24, size, members)
    }

    pub(crate) fn typedef(&mut self, name: &str, to: u32) -> u32 {
        self.add(name, 8 << 24, to, &[])
    }

    pub(crate) fn proto(&mut self, parameters: &[u32]) -> u32 {
        self.proto_giving(0, parameters)
    }

    pub(crate) fn proto_giving(&mut self, result: u32, parameters: &[u32]) -> u32 {
        let extra: Vec<u32> = parameters.iter().flat_map(|ty| [0, *ty]).collect();
        self.add("", 13 << 24 | u32::try_from(parameters.len()).unwrap(), result, &extra)
    }

    pub(crate) fn func(&mut self, name: &str, proto: u32) -> u32 {
        self.add(name, 12 << 24, proto, &[])
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut types: Vec<u8> = self.types.iter().flat_map(|word| word.to_le_bytes()).collect();
        let (types_len, strings_len) = (types.len(), self.strings.len());
        let header: u32 = if self.kinds.is_empty() { 24 } else { 32 };
        let mut words = vec![header, 0, types_len as u32, types_len as u32, strings_len as u32];
        if !self.kinds.is_empty() {
            words.extend([(types_len + strings_len) as u32, self.kinds.len() as u32 * 4]);
        }
        let mut out = vec![0x9f, 0xeb, 1, 0];
        out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        out.append(&mut types);
        out.extend_from_slice(&self.strings);
        out.extend(self.kinds.iter().flat_map(|(once, each)| [*once, *each, 0, 0]));
        out
    }
}

/// A kernel in small: what lazymmu asks a real one.
fn kernel() -> Builder {
    let mut b = Builder::default();
    let u8_ = b.int("unsigned char", 1);
    let u32_ = b.int("unsigned int", 4);
    let u64_ = b.int("unsigned long", 8);
    let u8_type = b.typedef("u8", u8_);
    let void = b.pointer(0);
    let comm = b.array(u8_, 16);
    let lazy = b.strukt("lazy_mmu_state", 2, &[("enable_count", u8_type, 0), ("pause_count", u8_type, 8)]);
    let inner = b.composite("", 5 << 24, 8, &[("utime", u64_, 0), ("stime", u64_, 0)]);
    let anonymous = b.strukt("", 16, &[("before", u64_, 0), ("", inner, 64)]);
    let constant = b.add("", 10 << 24, lazy, &[]);
    let task = [
        ("thread_info", u32_, 0),
        ("", anonymous, 64),
        ("lazy_mmu_state", constant, 192),
        ("comm", comm, 208),
        ("mm", void, 384),
    ];
    b.strukt("task_struct", 64, &task);
    // With the flag: a bit field of 3 bits at bit 8, a plain member at bit 32.
    let flagged = [("bits", u32_, 3 << 24 | 8), ("plain", u32_, 32)];
    b.composite("flagged", 1 << 31 | 4 << 24, 8, &flagged);
    let proto = b.proto(&[void, void, u64_, u32_, u32_, u64_]);
    let pointer = b.pointer(proto);
    b.typedef("btf_trace_lazy_mmu_read", pointer);
    b.add("do_exit", 12 << 24, proto, &[]);
    b
}

fn read(builder: &Builder) -> Btf {
    Btf::from_bytes(builder.bytes()).unwrap()
}

#[test]
fn a_member_is_found_through_named_and_anonymous_structs() {
    let btf = read(&kernel());
    let offset = |member| btf.member_offset("task_struct", member).unwrap();
    assert_eq!(offset("thread_info"), Some(0));
    assert_eq!(offset("before"), Some(8));
    assert_eq!(offset("stime"), Some(16), "a union in a struct, both without a name");
    assert_eq!(offset("lazy_mmu_state"), Some(24));
    assert_eq!(offset("lazy_mmu_state.enable_count"), Some(24), "through a qualifier");
    assert_eq!(offset("lazy_mmu_state.pause_count"), Some(25));
    assert_eq!(offset("comm"), Some(26));
    assert_eq!(btf.member_size("task_struct", "comm").unwrap(), Some(16));
    assert_eq!(btf.member_size("task_struct", "lazy_mmu_state.pause_count").unwrap(), Some(1));
    assert_eq!(btf.struct_size("task_struct").unwrap(), Some(64));
}

#[test]
fn what_is_not_there_is_none() {
    let btf = read(&kernel());
    for member in ["", "com", "comm2", "lazy_mmu_state.enable", ".comm", "lazy_mmu_state."] {
        assert_eq!(btf.member_offset("task_struct", member).unwrap(), None, "{member:?}");
    }
    assert_eq!(btf.member_offset("task", "comm").unwrap(), None);
    assert!(!btf.has_struct("task").unwrap());
    assert!(!btf.has_typedef("task_struct").unwrap(), "a struct is no typedef");
    assert!(!btf.has_typedef("btf_trace_lazy_mmu_rea").unwrap());
    assert!(!btf.has_function("do_exi").unwrap());
}

#[test]
fn a_tracepoint_tells_its_arguments() {
    let btf = read(&kernel());
    assert!(btf.has_typedef("btf_trace_lazy_mmu_read").unwrap());
    assert!(btf.has_function("do_exit").unwrap());
    let plain = |size| Argument { size, pointer: false };
    assert_eq!(
        btf.tracepoint_arguments("lazy_mmu_read").unwrap().unwrap(),
        [Argument { size: 8, pointer: true }, plain(8), plain(4), plain(4), plain(8)]
    );
    assert_eq!(btf.tracepoint_arguments("lazy_mmu_write").unwrap(), None);
}

#[test]
fn a_function_tells_its_arguments() {
    let btf = read(&kernel());
    let sizes = |arguments: Vec<Argument>| arguments.iter().map(|argument| argument.size).collect::<Vec<_>>();
    assert_eq!(sizes(btf.function_arguments("do_exit").unwrap().unwrap()), [8, 8, 8, 4, 4, 8]);
    assert_eq!(btf.function_arguments("do_exi").unwrap(), None);
}

#[test]
fn a_bit_field_and_a_pointer_are_refused_by_name() {
    let btf = read(&kernel());
    assert_eq!(btf.member_offset("flagged", "plain").unwrap(), Some(4));
    let error = btf.member_offset("flagged", "bits").unwrap_err();
    assert_eq!(error.to_string(), "take the byte offset of bits in struct flagged: it is a bit field");
    let error = btf.member_offset("task_struct", "mm.pgd").unwrap_err();
    assert!(error.to_string().contains("mm is no struct"), "{error}");
}

#[test]
fn the_other_byte_order_reads_the_same() {
    let bytes = kernel().bytes();
    let little = Btf::from_bytes(bytes.clone()).unwrap();
    let strings = 24 + u32::from_le_bytes(bytes[16..20].try_into().unwrap()) as usize;
    let mut swapped = bytes;
    swapped[..2].reverse();
    swapped[4..strings].chunks_exact_mut(4).for_each(<[u8]>::reverse);
    let big = Btf::from_bytes(swapped).unwrap();
    assert_eq!(little.len(), big.len());
    assert_eq!(big.member_offset("task_struct", "comm").unwrap(), Some(26));
}

#[test]
fn a_kind_of_the_future_is_stepped_over_if_the_kernel_says_how() {
    let mut builder = kernel();
    // Kind 20 with 8 bytes once and 4 for each of its 3 elements.
    builder.add("", 20 << 24 | 3, 0, &[1, 2, 3, 4, 5]);
    let u8_ = builder.int("last", 1);
    builder.strukt("behind", 1, &[("found", u8_, 0)]);
    let error = Btf::from_bytes(builder.bytes()).unwrap_err();
    assert!(error.to_string().contains("a kind of type that this lazymmu does not know"), "{error}");
    builder.kinds = vec![(0, 0); 21];
    builder.kinds[20] = (8, 4);
    assert_eq!(read(&builder).member_offset("behind", "found").unwrap(), Some(0));
}

#[test]
fn loops_end_with_an_error() {
    let mut builder = Builder::default();
    builder.strukt("typedefs", 8, &[("a", 2, 0)]);
    builder.typedef("x", 3);
    builder.typedef("y", 2);
    // Each struct holds itself twice, without a name: 2^64 ways to walk it.
    builder.strukt("itself", 8, &[("", 4, 0), ("", 4, 0)]);
    let array = builder.array(5, 1);
    builder.strukt("arrays", 8, &[("a", array, 0)]);
    let btf = read(&builder);
    for (outer, member) in [("typedefs", "a.b"), ("itself", "a")] {
        let error = btf.member_offset(outer, member).unwrap_err();
        assert!(error.to_string().contains("without an end"), "{error}");
    }
    assert!(matches!(btf.member_size("arrays", "a"), Err(BtfError::Malformed { .. })));
}

#[test]
fn what_is_no_btf_is_refused() {
    for bytes in [vec![], vec![0x9f], vec![0x9f, 0xeb, 1], b"\x7fELF\x02\x01\x01\0".to_vec()] {
        assert!(matches!(Btf::from_bytes(bytes), Err(BtfError::NotBtf(_))));
    }
    let mut newer = kernel().bytes();
    newer[2] = 2;
    assert!(matches!(Btf::from_bytes(newer), Err(BtfError::NotBtf(_))));
    let missing = Btf::from_file("/nonexistent/vmlinux").unwrap_err();
    assert!(missing.to_string().contains("CONFIG_DEBUG_INFO_BTF"), "{missing}");
}

#[test]
fn every_cut_is_refused_or_read() {
    let bytes = kernel().bytes();
    for len in 0..bytes.len() {
        // The last part is the strings, whose length the header tells: no cut can pass.
        assert!(Btf::from_bytes(bytes[..len].to_vec()).is_err(), "cut at {len}");
    }
}

/// Asks everything, for the sake of panics and endless loops; answers may be anything.
fn ask(bytes: Vec<u8>) {
    let Ok(btf) = Btf::from_bytes(bytes) else { return };
    for outer in ["task_struct", "flagged", "lazy_mmu_state"] {
        for member in ["comm", "stime", "lazy_mmu_state.pause_count", "mm.pgd", "bits", "none"] {
            let _ = btf.member_offset(outer, member);
            let _ = btf.member_size(outer, member);
        }
    }
    let _ = btf.tracepoint_arguments("lazy_mmu_read");
    let _ = btf.function_arguments("do_exit");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_bytes_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = kernel().bytes();
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        ask(bytes);
    }

    #[test]
    fn any_bytes_behind_a_header_never_panic(body in prop::collection::vec(any::<u8>(), 0..200), split in any::<prop::sample::Index>()) {
        let types = split.index(body.len() + 1);
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types, types, body.len() - types] {
            bytes.extend((word as u32).to_le_bytes());
        }
        bytes.extend(body);
        ask(bytes);
    }
}

#[test]
fn who_has_pointers_to_entries_is_told() {
    use super::{Pointee, Signature};
    use lazymmu_abi::Level;

    let mut builder = Builder::default();
    let long = builder.int("unsigned long", 8);
    let inner = builder.strukt("", 8, &[("pmd", long, 0)]);
    let pmd = builder.typedef("pmd_t", inner);
    let pmdp = builder.pointer(pmd);
    let pmdpp = builder.pointer(pmdp);
    let fault = builder.strukt("fault", 24, &[("address", long, 0), ("entry", pmd, 64), ("pmd", pmdp, 128)]);
    let alias = builder.typedef("fault_t", fault);
    let faultp = builder.pointer(alias);
    let proto = builder.proto_giving(pmdp, &[long, faultp, pmdpp]);
    builder.func("find", proto);
    let other = builder.proto(&[long]);
    builder.func("other", other);
    builder.func("twice", proto);
    builder.func("twice", proto);
    let save = builder.strukt("paravirt_callee_save", 8, &[("func", long, 0)]);
    let mmu = builder.strukt("pv_mmu_ops", 16, &[("set_pmd", long, 0), ("pmd_val", save, 64)]);
    builder.strukt("paravirt_patch_template", 24, &[("cpu", long, 0), ("mmu", mmu, 64)]);

    let types = Btf::from_bytes(builder.bytes()).unwrap().pointer_types().unwrap();
    assert_eq!(types.structs.len(), 1);
    assert_eq!((types.structs[0].name.as_str(), types.structs[0].size), ("fault", 24));
    assert_eq!(types.structs[0].members, [(16, Level::Pmd)], "the entry itself is no pointer to one");
    let parameters = vec![None, Some(Pointee::Struct(0)), Some(Pointee::Pointer(Level::Pmd))];
    let find = Signature { parameters, result: Some(Pointee::Entry(Level::Pmd)) };
    assert_eq!(types.functions.get("find"), Some(&find));
    assert_eq!(types.functions.len(), 1, "not those of a name that two have: {:?}", types.functions);
    assert_eq!(types.sparing, [16]);
}

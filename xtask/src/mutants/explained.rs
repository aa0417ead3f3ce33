//! Breaks that no test can notice, each with the reason. Whoever adds one has looked for a history in which it matters.

/// A part of a break's name, and why nothing can notice it.
pub(super) const EXPLAINED: &[(&str, &str)] = &[
    // The reasons of a finding.
    ("class.rs reason: `write.source.verified()` always true", ROWS_ARE_VERIFIED),
    ("class.rs reason: `queue.source.verified()` always true", ROWS_ARE_VERIFIED),
    ("class.rs reason: `access.source.verified()` always true", ROWS_ARE_VERIFIED),
    (
        "class.rs reason: `write.task != occurrence.first.task` always true",
        "what a task's own section holds in order breaks nothing, so where this is asked it is another task",
    ),
    ("class.rs reason: `elsewhere` always true", "as before"),
    ("class.rs reason: `Does::FlushesFirst` dropped", NOBODY_FLUSHES_FIRST),
    (
        "class.rs reason: `place.rule == RuleId::WriteReorder`",
        "no table of today queues a write that another one does at once, behind a write that both queue",
    ),
    ("profile/mod.rs new: `does == Does::FlushesFirst` never true", NOBODY_FLUSHES_FIRST),
    ("profile/mod.rs new: `add(&mut masks.flushes_first)` dropped", NOBODY_FLUSHES_FIRST),
    ("profile/mod.rs new: `Does::FlushesFirst` dropped", NOBODY_FLUSHES_FIRST),
    // What is known of CPUs.
    (
        "cpus.rs told: `told` gives true",
        "of CPUs that never told nothing is known: asking them finds nothing",
    ),
    ("engine.rs access: `self.cpus.told()` always true", "as before"),
    ("engine.rs section: `self.cpus.told()` always true", "as before"),
    (
        "cpus.rs entered: `owner.is_none()` never true",
        "the owner is not known where a switch was lost, and then that of the mode is not either: they are equal",
    ),
    (
        "nests.rs is_sure: `!self.others.is_empty()` always true",
        "it saves work: a set without tasks does not have this one",
    ),
    (
        "engine.rs follow: `!self.sections.get(id).story.doubtful` always true",
        "a kernel that does not count leaves a section in doubt only where the task moved, and then its calls are in doubt",
    ),
    // The engine.
    ("engine/judge.rs meet: `any` always true", "it saves work: there is nothing to judge"),
    ("engine/judge.rs met_at: `self.met.len() > before`", "as before"),
    ("engine/judge.rs judge: `self.met = met` dropped", "it saves memory: the list is empty either way"),
    (
        "engine/judge.rs met_at: `record.context() != Context::Task` always true",
        "a task whose mode is on is active, which is asked first",
    ),
    (
        "engine/judge.rs met_at: `masks.queues[op].or(masks.joins[op])` keeps its left side only",
        "of what a write is queued behind is asked, and no table of today keeps one in order that it does not queue",
    ),
    (
        "engine/judge.rs met_at: `active` never true",
        "what is stored outside and joins no queue inside is what is stored inside",
    ),
    ("engine/judge.rs met_at: `top.hides` always true", "it saves work: no other write comes after it"),
    ("engine/judge.rs met_at: `raw`", ASKED_BY_RULES),
    ("engine/judge.rs met_at: `Kind::Write` dropped from the arms", ASKED_BY_RULES),
    ("engine/judge.rs met_at: `waits.without(queued)` keeps its left side only", ASKED_BY_RULES),
    ("engine/judge.rs met_at: `waits.and(sees_memory)`", ASKED_BY_RULES),
    ("engine/judge.rs met_at: `!harms.is_empty()` always true", ASKED_BY_RULES),
    (
        "engine/judge.rs breached: `breaks.is_empty()` never true",
        "what breaks anywhere breaks the contract, a test of the tables says, so an error without a profile does not occur",
    ),
    ("engine/judge.rs breached: `place.rule.info().severity == Severity::Error` never true", "as before"),
    ("engine/judge.rs over: `section.is_wasted()` always true", "it saves work: the rule asks it again"),
    ("rules/wasted_section.rs check: `section.is_wasted()` always true", "the engine asked it before"),
    (
        "engine.rs process: `self.found.holds()` always true",
        "it saves work: what is not held cannot be confirmed",
    ),
    ("occurrence.rs holds: `holds` gives true", "as before"),
    (
        "engine.rs follow: `counters.is_none()` always true",
        "where the kernel counts, its counters answer and not these",
    ),
    (
        "engine.rs access: `!in_task` always true",
        "a task that writes where its mode is off has nothing that waits, and the rule asks for a mode that is on",
    ),
    ("engine.rs access: `active` always true #2", NOBODY_FLUSHES_FIRST),
    (
        "engine.rs access: `!first_flushed.is_empty()` always true",
        "it saves work: no profile is settled then",
    ),
    ("engine.rs access: `!self.pending.is_empty()` always true", "it saves work: nothing is met then"),
    // The mode.
    (
        "section.rs with_counters: `before.is_some()` always true",
        "without it the state before is made up from the record, which then follows from it",
    ),
    (
        "section.rs before_of: `after.pause == 0` always true",
        "a leave while paused has no effect, from whatever count it is tried",
    ),
    (
        "section.rs without_counters: `Op::Enter` dropped",
        "the generic layer, which comes next, does the same",
    ),
    // Rules that ask for the same thing twice.
    (
        "pause_misuse.rs left_while_paused: `section.mode.pause > 0`",
        "enters inside a pause are counted only while it lasts: either of the two questions is enough",
    ),
    ("tasks.rs went_on: `(_, Effect::Resumed)` dropped", "as before"),
    // Short cuts and memory.
    ("engine.rs access: `self.pending.at(EntryAddr(record.entry)).is_some()` always true", CACHE),
    ("engine.rs section: `record.entry != 0` always true", NOTHING_LEFT_OUT),
    ("engine.rs exited: `record.entry != 0` always true", NOTHING_LEFT_OUT),
    ("engine.rs access: `record.count > 1` always true", CACHE),
    ("engine.rs access: `record.count > 1` with or without equality", CACHE),
    ("pending.rs place_for_one: `place_for_one` gives None", CACHE),
    ("pending.rs place_for_one: `count != 1` always true", CACHE),
    ("pending.rs place_for_one: `self.live >= self.limit` negated", CACHE),
    ("pending.rs place_for_one: `self.live >= self.limit` always true", CACHE),
    ("pending.rs place_for_one: `*slot != 0` always true", CACHE),
    ("pending.rs has_chunks_for: `room > usize::from(u16::MAX) / SLOTS + 1` never true", CACHE),
    ("pending.rs has_chunks_for: `room > usize::from(u16::MAX) / SLOTS + 1` with or without equality", CACHE),
    ("pending.rs remove_one: `remove_one` gives None", CACHE),
    ("pending.rs remove_one: `count == 1` never true", CACHE),
    ("pending.rs remove_one: `*slot & !(DISTURBED | PASSED) != id.0 + 1` always true", CACHE),
    ("pending/chunks.rs find: `known == number` never true", CACHE),
    ("pending/chunks.rs look_up: `self.recent[recent(number)] = (number, index)` dropped", CACHE),
    (
        "pending/chunks.rs parts: `part.len = left.min(SLOTS - part.from)` dropped",
        "it saves work: the parts are of one entry then",
    ),
    ("pending.rs chain: `top.hides` always true", NOTHING_HIDDEN),
    ("pending.rs counts_at: `top.hides` always true", NOTHING_HIDDEN),
    ("pending.rs take: `slot & HIDES != 0` always true", NOTHING_HIDDEN),
    ("pending.rs forget_behind: `slot & HIDES == 0` never true", NOTHING_HIDDEN),
    ("pending.rs insert: `fresh == part.len` never true", CACHE),
    ("tasks.rs seen_on: `!self.switched_out` never true", CACHE),
    ("tasks.rs seen_on: `self.cpu == cpu` never true", CACHE),
    ("tasks.rs find: `section.task == Some(task)` never true", CACHE),
    ("tasks.rs find: `self.by_task.is_empty()` never true", CACHE),
    ("tasks.rs look_up: `self.remember(cpu, index)` dropped", CACHE),
    ("tasks.rs open: `self.remember(cpu, index)` dropped", CACHE),
    ("tasks.rs remember: ", CACHE),
    ("tasks.rs open: `section.story = Story::default()` dropped", "who opens it puts the story in at once"),
    ("tasks.rs close: `section.writes.clear()` dropped", "whoever closes it has taken them out"),
    ("tasks.rs close: `section.writes.shrink_to(KEPT_WRITES)` dropped", "it saves memory"),
    ("value.rs may_map: `shift < u64::BITS`", "the highest level is shifted by 48"),
];

const ROWS_ARE_VERIFIED: &str =
    "every row of every table was checked today; only happenings have one that was not";
const NOBODY_FLUSHES_FIRST: &str = "no architecture flushes before an operation today; the test of the engine for it puts the mask in itself";
const CACHE: &str = "it saves work: without it the same is found by a longer way";
const ASKED_BY_RULES: &str = "it saves work: a rule that is shown more asks the same of each encounter again";
const NOTHING_HIDDEN: &str =
    "it saves work: without the mark there is nothing behind the entry's write to be found";
const NOTHING_LEFT_OUT: &str = "it saves work: counts of nothing change nothing";

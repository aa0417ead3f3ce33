//! One input after the other.

use std::sync::Arc;

use super::overlay::Typed;
use super::prompt::suggestion;
use super::{Effect, Input, Overlay, Prompt, State, View};
use crate::action::Action;
use crate::source::{Answer, Goal, Request, Snapshot};
use crate::view;

impl State {
    /// Takes in one input. What has to be done outside is returned.
    #[must_use]
    pub fn update(&mut self, input: Input) -> Vec<Effect> {
        match input {
            Input::Key(key) => {
                self.message = None;
                if self.overlay.is_some() {
                    return self.typed(key);
                }
                if let Some(action) = self.look.keymap.action(key) {
                    return self.act(action);
                }
                let help = self.look.keymap.keys(Action::Help).next();
                let hint = help.map_or_else(String::new, |help| format!("; {help} shows what does"));
                self.message = Some((format!("{key} means nothing here{hint}"), true));
                Vec::new()
            }
            Input::Click(column, row) => self.click(column, row),
            Input::Wheel(lines) => match &mut self.overlay {
                Some(Overlay::Help { scroll: line, .. } | Overlay::Palette { cursor: line, .. }) => {
                    *line = line.saturating_add_signed(lines as isize);
                    Vec::new()
                }
                _ => self.step(lines as isize),
            },
            Input::Resize(width, height) => {
                self.size = (width, height);
                self.put(self.cursor())
            }
            Input::Snapshot(snapshot) => {
                self.latest = snapshot;
                if !self.frozen {
                    self.show_latest();
                }
                Vec::new()
            }
            Input::Answer(answer) => self.answered(answer),
            Input::SourceFile(name, lines) => {
                self.files.insert(name, lines);
                Vec::new()
            }
            Input::Message(text, bad) => {
                self.message = Some((text, bad));
                Vec::new()
            }
        }
    }

    fn show_latest(&mut self) {
        let old = std::mem::replace(&mut self.shown, Arc::clone(&self.latest));
        if !Arc::ptr_eq(&old, &self.shown) {
            self.sort();
            let view = self.view;
            if view != View::Findings {
                let rows = view::row_count(self);
                let cursor = self.cursor().min(rows.saturating_sub(1));
                self.cursors.insert(view, cursor);
            }
        }
    }

    fn answered(&mut self, answer: Answer) -> Vec<Effect> {
        match answer {
            Answer::Section(Ok(section)) => {
                let hazard = section.timeline.hazard;
                self.section = Some(section);
                self.cursors.insert(View::Section, hazard);
            }
            Answer::Section(Err(error)) => self.section_note = error,
            Answer::Moment(Ok(moment)) => {
                let at = moment.events.iter().position(|event| event.record == moment.record);
                self.cursors.insert(View::Cpus, at.unwrap_or_default());
                self.moment = Some(moment);
            }
            Answer::Moment(Err(error)) => self.message = Some((error, true)),
        }
        Vec::new()
    }

    fn typed(&mut self, key: crate::keys::Key) -> Vec<Effect> {
        let Some(mut overlay) = self.overlay.take() else { return Vec::new() };
        match overlay.key(key) {
            Typed::Closed => {
                if let Overlay::Prompt { prompt: Prompt::Search, origin, .. } = overlay {
                    self.search.clear();
                    return self.put(origin);
                }
                Vec::new()
            }
            Typed::Changed => {
                if let Overlay::Prompt { prompt: Prompt::Search, text, origin } = &overlay {
                    self.search.clone_from(text);
                    if !self.find(*origin, true, true) {
                        self.put(*origin);
                    }
                }
                let most = match &overlay {
                    Overlay::Palette { query, .. } | Overlay::Help { query, .. } => self.fitting(query).len(),
                    Overlay::Prompt { .. } => 0,
                };
                if let Overlay::Palette { cursor, .. } = &mut overlay {
                    *cursor = (*cursor).min(most.saturating_sub(1));
                }
                if let Overlay::Help { scroll, query } = &mut overlay {
                    *scroll = (*scroll).min(view::help_length(self, query).saturating_sub(1));
                }
                self.overlay = Some(overlay);
                Vec::new()
            }
            Typed::Submitted => self.submitted(overlay),
        }
    }

    fn submitted(&mut self, overlay: Overlay) -> Vec<Effect> {
        match &overlay {
            Overlay::Help { .. } => Vec::new(),
            Overlay::Palette { query, cursor } => match self.chosen(query, *cursor) {
                Some(action) => self.act(action),
                None => Vec::new(),
            },
            Overlay::Prompt { prompt, text, origin } => {
                let (prompt, origin) = (*prompt, *origin);
                match self.submit(prompt, text) {
                    Ok(effects) => {
                        if prompt == Prompt::Search
                            && !self.search.is_empty()
                            && !self.find(origin, true, true)
                        {
                            self.message = Some((format!("{} is not to be found here", self.search), true));
                        }
                        effects
                    }
                    Err(error) => {
                        self.message = Some((error, true));
                        self.overlay = Some(overlay);
                        Vec::new()
                    }
                }
            }
        }
    }

    fn prompt(&mut self, prompt: Prompt, text: String) -> Vec<Effect> {
        self.overlay = Some(Overlay::Prompt { prompt, text, origin: self.cursor() });
        Vec::new()
    }

    fn say(&mut self, text: impl Into<String>) -> Vec<Effect> {
        self.message = Some((text.into(), false));
        Vec::new()
    }

    /// Does an action.
    pub(super) fn act(&mut self, action: Action) -> Vec<Effect> {
        let page = isize::from(i16::try_from(self.size.1 / 2).unwrap_or(10)).max(1);
        match action {
            Action::Findings => self.show(View::Findings),
            Action::Finding => self.show(View::Finding),
            Action::Section => self.show(View::Section),
            Action::Cpus => self.show(View::Cpus),
            Action::Hooks => self.show(View::Hooks),
            Action::NextView => self.turn(1),
            Action::PreviousView => self.turn(View::ALL.len() - 1),
            Action::Back => self.back(),
            Action::Down => self.step(1),
            Action::Up => self.step(-1),
            Action::Left | Action::Right => {
                self.on_right = action == Action::Right;
                self.wanted_source()
            }
            Action::PageDown => self.step(page),
            Action::PageUp => self.step(-page),
            Action::First => self.put(0),
            Action::Last => self.put(usize::MAX),
            Action::Open => self.open(),
            Action::Sort => {
                self.column = self.column.next();
                self.sort();
                self.say(format!("sorted by {}", self.column.name()))
            }
            Action::Reverse => {
                self.reversed = !self.reversed;
                self.sort();
                Vec::new()
            }
            Action::OneEntry => self.one_entry(),
            Action::Search => self.prompt(Prompt::Search, String::new()),
            Action::SearchNext | Action::SearchPrevious => {
                if !self.find(self.cursor(), action == Action::SearchNext, false) {
                    return self.say("nothing to be found");
                }
                self.wanted_source()
            }
            Action::Filter => {
                let text = self.filter.as_ref().map_or_else(String::new, ToString::to_string);
                self.prompt(Prompt::Filter, text)
            }
            Action::Freeze => {
                self.frozen = !self.frozen;
                if !self.frozen {
                    self.show_latest();
                }
                Vec::new()
            }
            Action::Help => {
                self.overlay = Some(Overlay::Help { query: String::new(), scroll: 0 });
                Vec::new()
            }
            Action::Palette => {
                self.overlay = Some(Overlay::Palette { query: String::new(), cursor: 0 });
                Vec::new()
            }
            Action::Save => match self.finding().map(suggestion) {
                Some(name) => self.prompt(Prompt::Save, name),
                None => self.say("no finding is selected"),
            },
            Action::Jump => self.prompt(Prompt::Jump, String::new()),
            Action::NextEvent
            | Action::PreviousEvent
            | Action::NextSection
            | Action::PreviousSection
            | Action::NextHazard
            | Action::PreviousHazard => self.step_in_time(action),
            Action::Copy
            | Action::Theme
            | Action::Ascii
            | Action::Mouse
            | Action::Redraw
            | Action::Suspend
            | Action::Quit => self.program(action),
        }
    }

    fn program(&mut self, action: Action) -> Vec<Effect> {
        match action {
            Action::Copy => {
                let text = view::copied(self);
                let lines = text.lines().count();
                self.message =
                    Some((format!("copied {lines} line{}", if lines == 1 { "" } else { "s" }), false));
                vec![Effect::Copy(text)]
            }
            Action::Theme => {
                self.look.theme = self.look.theme.next();
                self.say(format!("colours: {}", self.look.theme.name()))
            }
            Action::Ascii => {
                self.look.glyphs.ascii = !self.look.glyphs.ascii;
                Vec::new()
            }
            Action::Mouse => {
                self.look.mouse = !self.look.mouse;
                let on = self.look.mouse;
                self.message = Some((format!("the mouse is {}", if on { "on" } else { "off" }), false));
                vec![Effect::Mouse(on)]
            }
            Action::Redraw => vec![Effect::Redraw],
            Action::Suspend => vec![Effect::Suspend],
            _ => vec![Effect::Quit],
        }
    }

    fn turn(&mut self, by: usize) -> Vec<Effect> {
        let at = View::ALL.iter().position(|view| *view == self.view).unwrap_or_default();
        self.show(View::ALL[(at + by) % View::ALL.len()])
    }

    fn back(&mut self) -> Vec<Effect> {
        if self.one_entry.is_some() && self.view == View::Section {
            return self.one_entry();
        }
        if let Some(view) = self.before.pop() {
            self.view = view;
        } else if self.view != View::Findings {
            self.view = View::Findings;
        }
        Vec::new()
    }

    fn open(&mut self) -> Vec<Effect> {
        match self.view {
            View::Findings if self.selected.is_some() => self.show(View::Finding),
            View::Finding => self.show(View::Section),
            View::Cpus => {
                let event = self.moment.as_ref().and_then(|moment| moment.events.get(self.cursor()));
                match event.map(|event| (event.record, self.moment.as_ref().map(|moment| moment.record))) {
                    Some((record, now)) if now != Some(record) => self.travel(Goal::Record(record)),
                    Some(_) => self.show(View::Section),
                    None => self.say("no moment is shown: go to one first"),
                }
            }
            View::Section => {
                let step = view::section::selected(self).map(|step| step.time_ns);
                step.map_or_else(Vec::new, |time| self.travel(Goal::Time(time)))
            }
            View::Findings | View::Hooks => Vec::new(),
        }
    }

    fn one_entry(&mut self) -> Vec<Effect> {
        let number = view::section::selected_number(self);
        self.one_entry = match self.one_entry {
            Some(_) => None,
            None => view::section::selected(self).and_then(|step| step.address),
        };
        // The cursor stays on the same step.
        let rows = view::section::numbers(self);
        let line = rows.iter().position(|row| Some(*row) == number);
        self.cursors.insert(View::Section, line.unwrap_or_default());
        Vec::new()
    }

    fn step_in_time(&mut self, action: Action) -> Vec<Effect> {
        let now = self.moment.as_ref().map(|moment| moment.record);
        let Some(now) = now else {
            // From where one is: what is selected, or the beginning.
            let time = match self.view {
                View::Section => view::section::selected(self).map(|step| step.time_ns),
                View::Finding => self.finding().map(|finding| finding.example.time_ns),
                View::Findings | View::Cpus | View::Hooks => None,
            };
            return self.travel(match (time, action) {
                (Some(time), _) => Goal::Time(time),
                (None, Action::NextSection) => Goal::NextSection(0),
                (None, Action::NextHazard) => Goal::NextHazard(0),
                (None, Action::PreviousSection) => Goal::PreviousSection(u64::MAX),
                (None, Action::PreviousHazard) => Goal::PreviousHazard(u64::MAX),
                (None, Action::PreviousEvent) => Goal::Record(u64::MAX),
                (None, _) => Goal::Record(0),
            });
        };
        self.travel(match action {
            Action::PreviousEvent => Goal::Record(now.saturating_sub(1)),
            Action::NextSection => Goal::NextSection(now),
            Action::PreviousSection => Goal::PreviousSection(now),
            Action::NextHazard => Goal::NextHazard(now),
            Action::PreviousHazard => Goal::PreviousHazard(now),
            _ => Goal::Record(now.saturating_add(1)),
        })
    }

    fn click(&mut self, column: u16, row: u16) -> Vec<Effect> {
        if self.overlay.is_some() {
            return Vec::new();
        }
        match view::hit(self, column, row) {
            Some(view::Hit::View(view)) => self.show(view),
            Some(view::Hit::Row(line)) if self.view == View::Findings && line == self.cursor() => self.open(),
            Some(view::Hit::Row(line)) => self.put(line),
            None => Vec::new(),
        }
    }
}

/// What is withheld while the screen is frozen.
#[must_use]
pub fn withheld(shown: &Snapshot, latest: &Snapshot) -> (u64, usize) {
    let records = latest.records.saturating_sub(shown.records);
    (records, latest.report.findings.len().saturating_sub(shown.report.findings.len()))
}

/// A request, to be used by who tests.
impl From<Request> for Effect {
    fn from(request: Request) -> Self {
        Self::Request(request)
    }
}

//! The cursor and the views.

use super::{Effect, State, View};
use crate::source::Request;
use crate::view;

impl State {
    /// Shows a view, and remembers where it came from.
    pub(super) fn go(&mut self, view: View) {
        if view != self.view {
            self.before.retain(|before| *before != view);
            self.before.push(self.view);
            self.view = view;
        }
    }

    /// Shows a view with what it needs.
    pub(super) fn show(&mut self, view: View) -> Vec<Effect> {
        let from = self.view;
        self.go(view);
        match view {
            View::Finding if from != View::Section => {
                self.cursors.insert(View::Finding, 0);
                self.on_right = false;
                self.wanted_source()
            }
            View::Finding => self.wanted_source(),
            View::Section => self.want_section(from),
            View::Findings | View::Cpus | View::Hooks => Vec::new(),
        }
    }

    fn want_section(&mut self, from: View) -> Vec<Effect> {
        if from == View::Cpus
            && let Some(moment) = &self.moment
        {
            let record = moment.record;
            self.forget_section();
            return vec![Effect::Request(Request::SectionAt(record))];
        }
        let Some(selected) = self.selected.clone() else {
            "No finding is selected.".clone_into(&mut self.section_note);
            return Vec::new();
        };
        if self.section.as_ref().is_some_and(|section| section.finding.as_ref() == Some(&selected)) {
            return Vec::new();
        }
        self.forget_section();
        vec![Effect::Request(Request::Section(selected))]
    }

    fn forget_section(&mut self) {
        (self.section, self.one_entry) = (None, None);
        "reading the section ...".clone_into(&mut self.section_note);
    }

    /// Puts the cursor on a line, or the last one.
    pub(super) fn put(&mut self, line: usize) -> Vec<Effect> {
        let rows = view::row_count(self);
        let line = line.min(rows.saturating_sub(1));
        self.cursors.insert(self.view, line);
        match self.view {
            View::Findings => {
                let finding = self.order.get(line).and_then(|number| self.shown.report.findings.get(*number));
                self.selected = finding.map(|finding| finding.fingerprint.clone());
                Vec::new()
            }
            View::Finding => self.wanted_source(),
            View::Section | View::Cpus | View::Hooks => Vec::new(),
        }
    }

    /// Moves the cursor.
    pub(super) fn step(&mut self, by: isize) -> Vec<Effect> {
        self.put(self.cursor().saturating_add_signed(by))
    }

    /// The source file of the frame under the cursor, if it is not there yet.
    pub(super) fn wanted_source(&self) -> Vec<Effect> {
        if !self.look.has_sources {
            return Vec::new();
        }
        let place = view::finding::place(self);
        let file = place.map(|place| place.file).filter(|file| !self.files.contains_key(file));
        file.map(Effect::ReadSource).into_iter().collect()
    }

    /// Puts the cursor on the next line that has what is searched for; the line itself counts if `here`.
    pub(super) fn find(&mut self, from: usize, forward: bool, here: bool) -> bool {
        if self.search.is_empty() {
            return false;
        }
        let rows = view::row_texts(self);
        let count = rows.len();
        let wanted = self.search.to_lowercase();
        let skip = usize::from(!here);
        let found = (skip..count + skip)
            .map(|step| if forward { (from + step) % count } else { (from + count - step % count) % count });
        let found = found.into_iter().find(|line| rows[*line].to_lowercase().contains(&wanted));
        if let Some(line) = found {
            self.put(line);
        }
        found.is_some()
    }
}

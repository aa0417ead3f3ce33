//! One compilation unit, with all that its sources need: the tree, the location lists, the code.

use super::dwarf::locations::{Held, Lists, Spilled};
use super::dwarf::tree::{Node, NodeKind, Tree};
use super::dwarf::{Dwarf, DwarfError, Sections, Unit};
use crate::address::LinkAddr;
use crate::image::Image;

/// A unit that is looked into.
pub(super) struct UnitView<'a> {
    pub(super) image: &'a Image,
    sections: &'a Sections<'a>,
    dwarf: &'a Dwarf<'a>,
    unit: &'a Unit<'a>,
    pub(super) tree: Tree<'a>,
    lists: Lists,
    /// Where it begins in `.debug_info`, for messages.
    at: u64,
    /// Its source file.
    pub(super) file: Option<String>,
}

impl<'a> UnitView<'a> {
    pub(super) fn new(
        image: &'a Image,
        sections: &'a Sections<'a>,
        dwarf: &'a Dwarf<'a>,
        unit: &'a Unit<'a>,
        at: u64,
    ) -> Result<Self, DwarfError> {
        let tree = Tree::read(dwarf, unit).map_err(|source| DwarfError::Unit { unit: at, source })?;
        let places = tree.nodes.iter().filter_map(|node| node.place.as_ref());
        let lists = Lists::load(sections, unit, places)?;
        let file = unit.name.map(|name| name.to_string_lossy().into_owned());
        Ok(Self { image, sections, dwarf, unit, tree, lists, at, file })
    }

    /// The code of a node: ranges that are not empty.
    pub(super) fn ranges(&self, node: &Node<'a>) -> Result<Vec<(LinkAddr, LinkAddr)>, DwarfError> {
        let ranges = Tree::ranges(self.dwarf, self.unit, node);
        ranges.map_err(|source| DwarfError::Unit { unit: self.at, source })
    }

    /// Where a variable is in registers, if it is.
    pub(super) fn held(&self, node: &Node<'a>, whole: (LinkAddr, LinkAddr)) -> Result<Vec<Held>, DwarfError> {
        Ok(self.placed(node, whole)?.0)
    }

    /// The same, and where it is on the stack.
    pub(super) fn placed(
        &self,
        node: &Node<'a>,
        whole: (LinkAddr, LinkAddr),
    ) -> Result<(Vec<Held>, Vec<Spilled>), DwarfError> {
        let Some(place) = &node.place else { return Ok((Vec::new(), Vec::new())) };
        self.lists.held(self.sections, self.unit, place, whole, self.at)
    }

    /// The functions with code of their own, as indices.
    pub(super) fn functions(&self) -> impl Iterator<Item = usize> {
        let nodes = self.tree.nodes.iter().enumerate();
        let functions = nodes.filter(|(_, node)| node.kind == NodeKind::Function && Tree::has_code(node));
        functions.map(|(index, _)| index)
    }
}

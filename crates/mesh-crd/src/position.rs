//! Where in a file each field of a document stands.

use std::collections::BTreeMap;

use crate::path;

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

/// The places of all fields of one document, by field path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions(BTreeMap<String, Position>);

impl Positions {
    pub(crate) fn insert(&mut self, path: &str, position: Position) {
        self.0.insert(path.to_owned(), position);
    }

    /// The place of `path`, or of the nearest thing around it that the file has; none only if nothing is known.
    pub fn find(&self, path: &str) -> Option<Position> {
        let mut path = path;
        loop {
            if let Some(position) = self.0.get(path) {
                return Some(*position);
            }
            path = path::parent(path)?;
        }
    }

    /// The positions of everything inside `root`, with paths that begin there (for the items of a list object).
    pub(crate) fn under(&self, root: &str) -> Positions {
        let inside = self.0.iter().filter(|(path, _)| path::is_within(path, root));
        let cut = |path: &String| path[root.len()..].trim_start_matches('.').to_owned();
        Positions(inside.map(|(path, position)| (cut(path), *position)).collect())
    }
}

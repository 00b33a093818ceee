//! Reports as files to open in a browser, beside what a sink prints.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tcp_trace_core::report::{Obituary, Report, StateChange};

use crate::{
    new_file::{self, What},
    outlet::Outlet,
    say,
    shown::shown,
    sink::html,
};

/// Hands everything on to another outlet, and draws each report into the files that were asked for: the last one stays.
#[derive(Debug)]
pub struct Pages<O: Outlet> {
    outlet: O,
    files: Vec<Page>,
}

/// A file, and what is drawn into it.
#[derive(Debug)]
pub struct Page {
    path: PathBuf,
    file: File,
    draw: fn(&Report) -> String,
}

impl Page {
    /// The report as a page.
    ///
    /// # Errors
    ///
    /// If the file cannot be created.
    pub fn html(path: &Path) -> anyhow::Result<Self> {
        Self::new(path, What { name: "page", beginning: b"<!DOCTYPE html>" }, html::page)
    }

    /// The state diagram alone.
    ///
    /// # Errors
    ///
    /// If the file cannot be created.
    pub fn svg(path: &Path) -> anyhow::Result<Self> {
        Self::new(
            path,
            What { name: "picture", beginning: b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg" },
            html::picture,
        )
    }

    /// One that is there already keeps its content until there is something to replace it with.
    fn new(path: &Path, what: What, draw: fn(&Report) -> String) -> anyhow::Result<Self> {
        Ok(Self { path: path.to_owned(), file: new_file::create(path, what)?, draw })
    }

    fn draw(&mut self, report: &Report) -> anyhow::Result<()> {
        let Self { path, file, draw } = self;
        let text = draw(report);
        replace(file, &text).with_context(|| format!("writing the page {}", shown(&*path)))?;
        say!("tcp-trace: wrote {} ({} kB)", shown(&*path), text.len().div_ceil(1000));
        Ok(())
    }
}

/// Puts `text` in the place of what the file held.
fn replace(file: &mut File, text: &str) -> io::Result<()> {
    if new_file::empty(file)? {
        file.seek(SeekFrom::Start(0))?;
    }
    file.write_all(text.as_bytes())
}

impl<O: Outlet> Pages<O> {
    /// What `outlet` gets is drawn into these files, too.
    pub fn new(outlet: O, files: Vec<Page>) -> Self {
        Self { outlet, files }
    }
}

impl<O: Outlet> Outlet for Pages<O> {
    fn wants_changes(&self) -> bool {
        self.outlet.wants_changes()
    }

    fn wants_closed(&self) -> bool {
        self.outlet.wants_closed()
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        self.outlet.begin()
    }

    fn changes(&mut self, changes: &mut Vec<StateChange>) -> anyhow::Result<()> {
        self.outlet.changes(changes)
    }

    fn closed(&mut self, closed: &mut Vec<Obituary>) -> anyhow::Result<()> {
        self.outlet.closed(closed)
    }

    fn report(&mut self, report: Report) -> anyhow::Result<()> {
        // Whoever reads along on the other side of a pipe may have gone, and the page is wanted all the same.
        for file in &mut self.files {
            file.draw(&report)?;
        }
        self.outlet.report(report)
    }
}

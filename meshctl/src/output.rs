//! How results look: tables and colour for people, JSON and YAML for programs.

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::cli::Format;

/// The exit code of everything that failed after the command line was understood.
pub(crate) const EXIT_FAILED: u8 = 1;

/// Something is as it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Something is on its way.
pub(crate) const WAITING: Style = AnsiColor::Yellow.on_default();
/// Something is wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
/// What to type.
pub(crate) const COMMAND: Style = AnsiColor::Cyan.on_default();
/// A heading.
pub(crate) const BOLD: Style = Style::new().bold();

/// Prints a line; colour reaches terminals only. A reader that has gone (`| head`) is no error.
pub(crate) fn line(text: impl std::fmt::Display) {
    use std::io::Write as _;
    if writeln!(anstream::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Prints a line for people beside the result.
pub(crate) fn note(text: impl std::fmt::Display) {
    anstream::eprintln!("{text}");
}

/// Says why the command failed.
pub(crate) fn error(err: &anyhow::Error) {
    note(format_args!("{BAD}error:{BAD:#} {err:#}"));
}

/// `text` in a style.
pub(crate) fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Prints a value as JSON or YAML; `false` when people are to be shown something else.
pub(crate) fn structured(format: Format, value: &impl Serialize) -> anyhow::Result<bool> {
    match format {
        Format::Text => return Ok(false),
        Format::Json => line(serde_json::to_string_pretty(value)?),
        Format::Yaml => line(serde_saphyr::to_string(value)?.trim_end()),
    }
    Ok(true)
}

/// A table with a heading and no borders, as kubectl's.
pub(crate) fn table(heading: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heading.iter().copied());
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

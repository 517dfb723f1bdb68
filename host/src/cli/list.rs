//! `tracemq list`: what there is on the other side, as a table or as JSON.

use super::job::Job;
use super::run::{self, Cut, Ending, Limits, Session, Stop};
use super::subscribe;
use crate::failure::{Exit, Failure};
use crate::output::{Sink, WriteError, escape};
use crate::redact;
use clap::{Arg, ArgAction, Command};
use serde_json::{Map, Value};

pub fn command() -> Command {
    Command::new("list")
        .about("List what is there: what there is to list depends on the protocol")
        .arg(run::target())
        .arg(Arg::new("what").value_name("WHAT").help("Which of the protocol's lists"))
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("An object a line instead of a table"),
        )
        .arg(subscribe::wait("Give up after so long, with status 5"))
}

pub fn run(job: Job) -> Result<(), Failure> {
    let what = job.matches.get_one::<String>("what").map_or("", String::as_str);
    run::block_on(Ending::Interrupts, async {
        let limits = Limits::new(subscribe::waited(&job.matches));
        let session = Session::open(&job, &limits).await?;
        let listing = limits.call("list", &job.target, session.connection().list(what)).await;
        session.close().await;
        let listing = match listing {
            Ok(mut listing) => {
                // The names of the columns are the plugin's own.
                listing.get_mut("rows").map(redact::json);
                listing
            }
            Err(Cut::Failed(failure)) => return Err(failure),
            Err(Cut::Stop(Stop::Time)) => {
                return Err(Failure::new(Exit::TimedOut, format!("list {}: time ran out", job.target))
                    .hint("give it more with -W"));
            }
            Err(Cut::Stop(_)) => return Err(run::interrupted()),
        };
        let table = Table::new(&listing).ok_or_else(|| {
            Failure::plugin(format!("list {}: the plugin's listing is no table", job.target))
                .hint("this is a fault of the plugin: please report it to its author")
        })?;
        let text = if job.matches.get_flag("json") { table.json() } else { table.text() };
        match Sink::stdout().write_all(text.as_bytes()) {
            Ok(()) | Err(WriteError::Closed) => Ok(()),
            Err(WriteError::Interrupted) => Err(run::interrupted()),
            Err(WriteError::Failed(error)) => {
                Err(Failure::new(Exit::Failed, format!("write to stdout: {error}")))
            }
        }
    })
}

/// A plugin's listing, `{"columns": […], "rows": [[…]…]}`.
struct Table<'a> {
    columns: Vec<&'a str>,
    rows: Vec<&'a [Value]>,
}

impl<'a> Table<'a> {
    fn new(listing: &'a Value) -> Option<Table<'a>> {
        let columns = listing.get("columns")?.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?;
        let rows = listing.get("rows")?.as_array()?;
        let rows = rows.iter().map(|row| row.as_array().map(Vec::as_slice)).collect::<Option<_>>()?;
        Some(Table { columns, rows })
    }

    /// Columns by two spaces, numbers to the right.
    fn text(&self) -> String {
        let mut lines = vec![self.columns.iter().map(|name| name.to_uppercase()).collect::<Vec<_>>()];
        lines.extend(self.rows.iter().map(|row| {
            (0..self.columns.len()).map(|column| row.get(column).map_or(String::new(), cell)).collect()
        }));
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let numbers: Vec<bool> = (0..self.columns.len())
            .map(|column| {
                let mut cells = self.rows.iter().filter_map(|row| row.get(column)).peekable();
                cells.peek().is_some() && cells.all(Value::is_number)
            })
            .collect();

        let mut out = String::new();
        for line in &lines {
            let mut text = String::new();
            for (column, cell) in line.iter().enumerate() {
                let space = " ".repeat(widths[column] - cell.chars().count());
                let separator = if column == 0 { "" } else { "  " };
                text.push_str(separator);
                if numbers[column] {
                    text.push_str(&space);
                    text.push_str(cell);
                } else {
                    text.push_str(cell);
                    text.push_str(&space);
                }
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
        out
    }

    fn json(&self) -> String {
        let mut out = String::new();
        for row in &self.rows {
            let object: Map<String, Value> = self
                .columns
                .iter()
                .enumerate()
                .map(|(column, name)| ((*name).to_owned(), row.get(column).cloned().unwrap_or_default()))
                .collect();
            out.push_str(&Value::Object(object).to_string());
            out.push('\n');
        }
        out
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => escape::line(text).into_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_for_people_and_objects_for_programs() {
        let listing = json!({"columns": ["stream", "messages"], "rows": [["orders", 12], ["é\u{1b}[2J", 3400], ["short"]]});
        let table = Table::new(&listing).unwrap();
        assert_eq!(table.text(), "STREAM    MESSAGES\norders          12\né\\x1b[2J      3400\nshort\n");
        assert_eq!(
            table.json(),
            "{\"stream\":\"orders\",\"messages\":12}\n{\"stream\":\"é\\u001b[2J\",\"messages\":3400}\n\
             {\"stream\":\"short\",\"messages\":null}\n"
        );
    }

    #[test]
    fn what_is_no_table_is_refused() {
        for listing in [
            json!([]),
            json!({"columns": ["a"]}),
            json!({"columns": [1], "rows": []}),
            json!({"columns": [], "rows": [1]}),
        ] {
            assert!(Table::new(&listing).is_none(), "{listing}");
        }
    }
}

//! `tracemq profile list`.

use super::check::know_token;
use super::shown_url;
use crate::cli::url;
use crate::failure::Failure;
use crate::output::escape;
use crate::plugins::Catalog;
use crate::profiles::{self, Color, Guard, Profile};
use clap::{Arg, ArgMatches, Command};
use serde_json::json;
use std::io::IsTerminal;
use std::path::PathBuf;

pub fn command() -> Command {
    Command::new("list")
        .about("List the profiles")
        .long_about(
            "List the profiles, sorted by their names and by the groups that they are in: name, protocol, URL and guard. On \
             a terminal a name has its profile's colour.",
        )
        .arg(
            Arg::new("group")
                .long("group")
                .value_name("GROUP")
                .help("Only those of this group; the empty text: those without one"),
        )
        .arg(super::flag("json", "Print an object a line"))
        .arg(super::flag("names", "Print the names alone").conflicts_with("json"))
}

struct Row {
    name: String,
    profile: Option<Profile>,
    error: Option<String>,
}

impl Row {
    fn of(name: String) -> Row {
        match profiles::find(&name) {
            Ok(profile) => Row { name, profile, error: None },
            Err(failure) => Row { name, profile: None, error: Some(failure.to_string()) },
        }
    }

    fn url(&self) -> Option<String> {
        self.profile.as_ref()?.url.as_deref().map(shown_url)
    }

    fn protocol(&self) -> Option<String> {
        let profile = self.profile.as_ref()?;
        profile.protocol.clone().or_else(|| profile.url.as_deref().and_then(url::scheme_of))
    }

    fn guard(&self) -> Option<&'static str> {
        self.profile.as_ref()?.guard.map(Guard::name)
    }

    fn group(&self) -> &str {
        self.profile.as_ref().and_then(|profile| profile.group.as_deref()).unwrap_or_default()
    }

    fn color(&self) -> Option<Color> {
        self.profile.as_ref()?.color
    }

    fn json(&self) -> String {
        let group = Some(self.group()).filter(|group| !group.is_empty());
        let row = json!({
            "name": self.name,
            "protocol": self.protocol(),
            "url": self.url(),
            "guard": self.guard(),
            "group": group,
            "color": self.color().map(Color::name),
            "error": self.error,
        });
        format!("{row}\n")
    }
}

pub fn run(matches: &ArgMatches, dirs: &[PathBuf]) -> Result<(), Failure> {
    let names = profiles::names()?;
    let wanted = matches.get_one::<String>("group");
    if matches.get_flag("names") && wanted.is_none() {
        return crate::cli::print(names.iter().map(|name| format!("{name}\n")).collect::<String>());
    }
    let mut rows: Vec<Row> = names.into_iter().map(Row::of).collect();
    rows.retain(|row| wanted.is_none_or(|wanted| row.group() == wanted));
    if matches.get_flag("names") {
        return crate::cli::print(rows.iter().map(|row| format!("{}\n", row.name)).collect::<String>());
    }
    let catalog = Catalog::open(dirs);
    rows.iter().filter_map(|row| row.profile.as_ref()).for_each(|profile| know_token(&catalog, profile));
    // Within a group they stay sorted by their names.
    rows.sort_by(|a, b| a.group().cmp(b.group()));
    if matches.get_flag("json") {
        return crate::cli::print(rows.iter().map(Row::json).collect::<String>());
    }
    crate::cli::print(table(&rows, colored()))
}

/// https://no-color.org: present and not empty.
fn colored() -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !plain && std::io::stdout().is_terminal()
}

fn table(rows: &[Row], colored: bool) -> String {
    let cells: Vec<[String; 4]> = rows
        .iter()
        .map(|row| {
            let last = row.error.clone().or_else(|| row.guard().map(str::to_owned)).unwrap_or_default();
            [row.name.clone(), row.protocol().unwrap_or_default(), row.url().unwrap_or_default(), last]
                .map(|cell| escape::line(&cell).into_owned())
        })
        .collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let mut out = String::new();
    let mut group = "";
    for (row, [name, protocol, url, last]) in rows.iter().zip(&cells) {
        if row.group() != group {
            group = row.group();
            let gap = if out.is_empty() { "" } else { "\n" };
            out.push_str(&format!("{gap}{}:\n", escape::line(group)));
        }
        let indent = if group.is_empty() { "" } else { "  " };
        let painted = row.color().filter(|_| colored).map(|color| color.paint(name));
        // The colour takes no room.
        let space = " ".repeat(widths[0] - name.chars().count());
        let name = painted.as_deref().unwrap_or(name);
        let line = format!("{indent}{name}{space}  {protocol:<0$}  {url:<1$}  {last}", widths[1], widths[2]);
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, text: &str) -> Row {
        Row { name: name.into(), profile: Profile::parse(name, text).ok(), error: None }
    }

    #[test]
    fn groups_are_headings_and_colours_take_no_room() {
        let rows = [
            row("a", "url = \"x://h\""),
            row("long-name", "url = \"x://host\"\ncolor = \"red\"\ngroup = \"plant\""),
            row("z", "url = \"x://h\"\nguard = \"read-only\"\ngroup = \"plant\""),
        ];
        let expected =
            "a          x  x://h\n\nplant:\n  long-name  x  x://host\n  z          x  x://h     read-only\n";
        assert_eq!(table(&rows, false), expected);
        assert_eq!(table(&rows, true), expected.replace("long-name", "\u{1b}[31mlong-name\u{1b}[0m"));
    }
}

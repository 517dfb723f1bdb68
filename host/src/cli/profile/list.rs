//! `tracemq profile list`.

use super::shown_url;
use crate::cli::url;
use crate::failure::Failure;
use crate::profiles::{self, Guard};
use clap::{ArgMatches, Command};
use serde_json::json;

pub fn command() -> Command {
    Command::new("list")
        .about("List the profiles")
        .arg(super::flag("json", "Print an object a line"))
        .arg(super::flag("names", "Print the names alone").conflicts_with("json"))
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let names = profiles::names()?;
    let mut out = String::new();
    if matches.get_flag("names") {
        names.iter().for_each(|name| out.push_str(&format!("{name}\n")));
        return crate::cli::print(out);
    }
    let mut rows = Vec::new();
    for name in names {
        let found = profiles::find(&name);
        let profile = found.as_ref().ok().and_then(Option::as_ref);
        let url = profile.and_then(|profile| profile.url.as_deref()).map(shown_url);
        let protocol = profile.and_then(|profile| {
            profile.protocol.clone().or_else(|| profile.url.as_deref().and_then(url::scheme_of))
        });
        let guard = profile.and_then(|profile| profile.guard).map(Guard::name);
        let error = found.as_ref().err().map(ToString::to_string);
        if matches.get_flag("json") {
            let row = json!({"name": name, "protocol": protocol, "url": url, "guard": guard, "error": error});
            out.push_str(&format!("{row}\n"));
        } else {
            let last = error.or_else(|| guard.map(str::to_owned)).unwrap_or_default();
            rows.push([name, protocol.unwrap_or_default(), url.unwrap_or_default(), last]);
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    for [name, protocol, url, last] in &rows {
        let line = format!("{name:<0$}  {protocol:<1$}  {url:<2$}  {last}", widths[0], widths[1], widths[2]);
        out.push_str(&format!("{}\n", crate::output::escape::line(line.trim_end())));
    }
    crate::cli::print(out)
}

//! `tracemq plugin`: which plugins there are, what they offer, and which of them may run.

use super::help::{self, Offer};
use super::print;
use crate::failure::{Exit, Failure};
use crate::options::Schema;
use crate::output::{escape, events};
use crate::plugins::{Catalog, Entry, Trust};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tracemq_plugin_api::abi::API_VERSION;
use tracemq_plugin_api::sdk::Descriptor;

pub fn command() -> Command {
    let json =
        || Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON, an object a line");
    let which = || Arg::new("plugin").required(true).value_name("ID|PATH");
    Command::new("plugin")
        .about("List plugins, look at one, trust one")
        .subcommand_required(true)
        .subcommand(
            Command::new("list")
                .about("List the plugins that are found, and those that are refused")
                .arg(json()),
        )
        .subcommand(
            Command::new("info")
                .about("Tell everything about a plugin: version, schemes, verbs, options, trust")
                .arg(which().help("A protocol's name, or the plugin's file"))
                .arg(json()),
        )
        .subcommand(
            Command::new("trust")
                .about("Let a plugin run as long as its file stays as it is now")
                .arg(which().help("The plugin's file, or a protocol's name"))
                .arg(Arg::new("remove").long("remove").action(ArgAction::SetTrue).help("Trust it no longer")),
        )
}

/// `plugin_dirs`: the folders of `--plugin-dir`.
pub fn run(matches: &ArgMatches, plugin_dirs: &[PathBuf]) -> Result<(), Failure> {
    let mut catalog = Catalog::open(plugin_dirs);
    match matches.subcommand() {
        Some(("list", matches)) => list(&catalog, matches.get_flag("json")),
        Some(("info", matches)) => info(&mut catalog, which(matches), matches.get_flag("json")),
        Some(("trust", matches)) if matches.get_flag("remove") => distrust(&mut catalog, which(matches)),
        Some(("trust", matches)) => trust(&mut catalog, which(matches)),
        _ => Err(Failure::usage("plugin: say list, info or trust")),
    }
}

fn which(matches: &ArgMatches) -> &str {
    matches.get_one::<String>("plugin").map_or("", String::as_str)
}

fn list(catalog: &Catalog, json: bool) -> Result<(), Failure> {
    if json {
        let lines: String = catalog.entries().iter().map(|entry| format!("{}\n", summary(entry))).collect();
        return print(&lines);
    }
    let refused: Vec<&str> = catalog.entries().iter().filter_map(Entry::refusal).collect();
    for warning in catalog.warnings().iter().filter(|line| !refused.contains(&line.as_str())) {
        events::line(warning);
    }
    if catalog.entries().is_empty() {
        let folders: Vec<String> =
            catalog.searched().iter().map(|folder| folder.display().to_string()).collect();
        events::line(&format!("no plugins in {}", folders.join(", ")));
        return Ok(());
    }
    let mut rows = vec![["ID", "VERSION", "API", "SCHEMES", "VERBS", "TRUST", "PATH"].map(str::to_owned)];
    for entry in catalog.entries() {
        if let Some(plugin) = entry.descriptor() {
            rows.push([
                plugin.id.clone(),
                plugin.version.clone(),
                plugin.api.clone(),
                schemes(plugin).join(","),
                verbs(plugin).join(","),
                entry.trust().name().to_owned(),
                entry.path().display().to_string(),
            ]);
        }
    }
    let mut text = if rows.len() > 1 { table(&rows) } else { String::new() };
    if !refused.is_empty() {
        let gap = if text.is_empty() { "" } else { "\n" };
        text.push_str(&format!("{gap}Refused:\n"));
        refused.iter().for_each(|line| text.push_str(&format!("  {}\n", escape::line(line))));
    }
    print(&text)
}

/// Columns as wide as their widest cell, the last one as it comes.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let cells: Vec<[String; N]> =
        rows.iter().map(|row| row.each_ref().map(|cell| escape::line(cell).into())).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in &cells {
        for (cell, width) in row.iter().zip(&widths).take(N - 1) {
            text.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(&row[N - 1]);
        text.push('\n');
    }
    text
}

fn schemes(plugin: &Descriptor) -> Vec<&str> {
    plugin.schemes.iter().map(|scheme| scheme.name.as_str()).collect()
}

fn verbs(plugin: &Descriptor) -> Vec<&'static str> {
    plugin.verbs.iter().map(|verb| verb.name()).collect()
}

fn info(catalog: &mut Catalog, which: &str, json: bool) -> Result<(), Failure> {
    let place = find(catalog, which)?;
    let entry = &catalog.entries()[place];
    if entry.refusal().is_some() && entry.trust().allows() {
        // What it lacked may be there by now, and a slow machine may have become quicker.
        catalog.again(place);
    }
    let entry = &catalog.entries()[place];
    let sha256 = entry.digest();
    if json {
        let mut whole = summary(entry);
        whole["sha256"] = json!(sha256.as_ref().ok());
        if let Some(plugin) = entry.descriptor() {
            whole["capabilities"] = json!(plugin.capabilities);
            whole["topics"] = json!(plugin.topics);
            whole["imports"] = json!(plugin.imports);
            whole["schemas"] = json!(plugin.schemas);
        }
        print(format!("{whole}\n"))?;
    }
    let Some(plugin) = entry.descriptor() else {
        return Err(Failure::plugin(entry.refusal().unwrap_or_default()));
    };
    if json {
        return Ok(());
    }
    let sha256 = sha256.map_err(Failure::plugin)?;
    print(describe(entry, plugin, &sha256))
}

fn describe(entry: &Entry, plugin: &Descriptor, sha256: &str) -> String {
    let mut text = format!("{} {}: {}\n", plugin.id, plugin.version, plugin.name);
    if !plugin.about.is_empty() {
        text.push_str(&format!("{}\n", plugin.about));
    }
    let ports = plugin.schemes.iter().map(|scheme| match scheme.port {
        Some(port) => format!("{}:// (port {port})", scheme.name),
        None => format!("{}://", scheme.name),
    });
    let imports = plugin.imports.iter().map(|format| format!("{} ({})", format.id, format.title));
    let (major, minor, patch) = API_VERSION;
    let trust = match entry.trust() {
        Trust::Installed => "came with tracemq".to_owned(),
        Trust::Digest { since } => format!("by its digest, since {since}"),
        other => other.name().to_owned(),
    };
    for (name, value) in [
        ("path", entry.path().display().to_string()),
        ("sha256", sha256.to_owned()),
        ("trust", trust),
        ("api", format!("{} (this tracemq: {major}.{minor}.{patch})", plugin.api)),
        ("verbs", verbs(plugin).join(", ")),
        ("schemes", ports.collect::<Vec<_>>().join(", ")),
        ("capabilities", plugin.capabilities.join(", ")),
        ("imports", imports.collect::<Vec<_>>().join(", ")),
    ] {
        if !value.is_empty() {
            text.push_str(&format!("  {name:12}  {value}\n"));
        }
    }
    // Escaped before the options, whose text clap lays out.
    let mut text: String = text.lines().map(|line| format!("{}\n", escape::line(line))).collect();
    for (name, schema) in [
        ("CONNECTION", &plugin.schemas.connection),
        ("PUBLISH", &plugin.schemas.publish),
        ("SUBSCRIBE", &plugin.schemas.subscribe),
        ("REQUEST", &plugin.schemas.request),
        ("SERVE", &plugin.schemas.serve),
    ] {
        let repeated = name == "REQUEST" && plugin.schemas.request == plugin.schemas.publish;
        if let Ok(schema) = Schema::parse(schema)
            && !schema.specs.is_empty()
            && !repeated
        {
            text.push_str(&format!("\n{name}\n{}\n", options(schema)));
        }
    }
    text
}

/// The flags of one schema, as `--help` shows them.
fn options(schema: Schema) -> String {
    let (publish, subscribe, request, serve) = Default::default();
    let offer = Offer { connection: schema, publish, subscribe, request, serve };
    let command = Command::new("options").disable_help_flag(true).help_template("{all-args}");
    help::add(command, &offer, "General").render_help().to_string().trim_end().to_owned()
}

/// What is said of every library, in `list --json` and `info --json`.
fn summary(entry: &Entry) -> Value {
    let plugin = entry.descriptor();
    json!({
        "id": plugin.map(|plugin| &plugin.id),
        "name": plugin.map(|plugin| &plugin.name),
        "version": plugin.map(|plugin| &plugin.version),
        "api": plugin.map(|plugin| &plugin.api),
        "about": plugin.map(|plugin| &plugin.about),
        "schemes": plugin.map(|plugin| &plugin.schemes),
        "verbs": plugin.map(verbs),
        "path": entry.path(),
        "trust": entry.trust().name(),
        "refusal": entry.refusal(),
    })
}

fn trust(catalog: &mut Catalog, which: &str) -> Result<(), Failure> {
    let place = find(catalog, which)?;
    let entry = &catalog.entries()[place];
    let path = entry.path().display().to_string();
    match entry.refusal() {
        _ if *entry.trust() == Trust::Installed => {
            return print(format!("{} came with tracemq and is trusted\n", escape::line(&path)));
        }
        // What can't be a plugin is not worth a place in the list of what is trusted.
        Some(refusal) if !entry.wants_trust() && !entry.trust().allows() => {
            return Err(Failure::plugin(refusal));
        }
        _ => {}
    }
    let sha256 = entry.digest().map_err(Failure::plugin)?;
    catalog.trust(place, &sha256)?;
    print(format!("{} is trusted, SHA-256 {sha256}\n", escape::line(&path)))?;
    let entry = &catalog.entries()[place];
    match entry.descriptor() {
        Some(plugin) => {
            let line = format!("{} {}: {}", plugin.id, plugin.version, schemes(plugin).join(", "));
            print(format!("{}\n", escape::line(&line)))
        }
        None => Err(Failure::plugin(entry.refusal().unwrap_or_default())),
    }
}

fn distrust(catalog: &mut Catalog, which: &str) -> Result<(), Failure> {
    let place = find(catalog, which)?;
    let entry = &catalog.entries()[place];
    let (path, installed) = (entry.path().display().to_string(), *entry.trust() == Trust::Installed);
    if catalog.distrust(place)? {
        return print(format!("{} is not trusted any more\n", escape::line(&path)));
    }
    let failure = Failure::new(Exit::Failed, format!("{path} was not trusted by its digest"));
    Err(if installed {
        failure.hint("it came with tracemq: remove the file to be rid of it")
    } else {
        failure
    })
}

/// The place in the catalog of what the user calls a plugin.
fn find(catalog: &mut Catalog, which: &str) -> Result<usize, Failure> {
    if which.contains('/') || Path::new(which).extension().is_some() || Path::new(which).is_file() {
        return Ok(catalog.place_of_path(Path::new(which)));
    }
    catalog.place_of_id(which).ok_or_else(|| catalog.unknown(which))
}

//! Old and new meet: a plugin built on the frozen API in today's host, today's plugin in a host built on it, and each of them
//! with an API that has grown. What has not grown but changed is refused.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tracemq_tests::{Cmd, Tracemq, changed_api, copy_folder, fixture, old_api, replace};

/// The API 1.2.0 as it may become: today's with one more function and one more method of a connection.
fn grown_api() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            changed_api("grown", |copy| {
                let api = copy.join("grown/plugin-api");
                todays_source(&api);
                replace(&api.join("Cargo.toml"), "version = \"1.0.0\"", "version = \"1.2.0\"");
                replace(
                    &copy.join("Cargo.lock"),
                    "name = \"tracemq-plugin-api\"\nversion = \"1.0.0\"",
                    "name = \"tracemq-plugin-api\"\nversion = \"1.2.0\"",
                );
                replace(&api.join("src/abi/mod.rs"), "= (1, 1, 0)", "= (1, 2, 0)");
                let module = api.join("src/abi/module.rs");
                replace(
                    &module,
                    "    pub import: extern \"C\" fn(call: RString, content: RVec<u8>) -> FfiResult<RString>,\n",
                    "    pub import: extern \"C\" fn(call: RString, content: RVec<u8>) -> FfiResult<RString>,\n    \
                     pub mood: extern \"C\" fn() -> RString,\n",
                );
                replace(
                    &module,
                    "    fn close(&self) -> FfiFuture<()>;\n}\n\n/// A stream of messages.",
                    "    fn close(&self) -> FfiFuture<()>;\n\n    fn weight(&self) -> u64 { 99 }\n}\n\n/// A stream of messages.",
                );
                let adapter = api.join("src/sdk/adapter.rs");
                replace(&adapter, "import: import::<P>,", "import: import::<P>, mood,");
                replace(
                    &adapter,
                    "extern \"C\" fn import<",
                    "extern \"C\" fn mood() -> RString { \"cheerful\".into() }\n\nextern \"C\" fn import<",
                );
                replace(
                    &copy.join("grown-host/src/main.rs"),
                    "    println!(\"closed\");\n",
                    "    let import = plugin.import().map(|import| import(\"{}\".into(), b\"x\".to_vec().into()));\n    \
                     let import = import.map(|read| read.into_result()).transpose()?;\n    \
                     println!(\"closed, mood {:?}, weight {}, import {import:?}\", plugin.mood().map(|mood| mood()), \
                     connection.weight());\n",
                );
                let plugin = copy.join("grown-plugin/src/lib.rs");
                replace(&plugin, "About::new(\"old\", \"Old\",", "About::new(\"grown\", \"Grown\",");
                replace(&plugin, ".scheme(\"old\", None)", ".scheme(\"grown\", None)");
            })
        })
        .clone()
}

/// Puts the source of today's API in the place of the frozen one, without `net`, which does not cross.
fn todays_source(api: &Path) {
    let today = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("plugin-api").join("src");
    let source = api.join("src");
    std::fs::remove_dir_all(&source).expect("the copy can be changed");
    copy_folder(&today, &source);
    std::fs::remove_dir_all(source.join("net")).expect("today's API has a folder net");
}

/// A field added to what crosses by value, under the same version: what must never be done.
fn broken_api() -> PathBuf {
    changed_api("broken", |copy| {
        let batch = copy.join("broken/plugin-api/src/abi/batch.rs");
        replace(
            &batch,
            "    /// Reserved for what later versions add to a message.\n    pub extension: Slice,\n",
            "    pub extension: Slice,\n    pub priority: u64,\n",
        );
        let builder = copy.join("broken/plugin-api/src/sdk/batch.rs");
        replace(
            &builder,
            "            extension: Slice::absent(),\n",
            "            extension: Slice::absent(),\n            priority: 0,\n",
        );
    })
}

/// Every verb of the plugin of `tests/abi`, through today's host.
fn runs_in_todays_host(library: &Path, scheme: &str) {
    let tracemq = Tracemq::new();
    tracemq.add_plugin(library);
    let url = format!("{scheme}://here");

    let done = tracemq.cmd(["sub", &url, "a/b", "--prefix", "no. ", "--format", "json"]).finish().expect(0);
    let messages: Vec<serde_json::Value> =
        done.lines().iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let payloads: Vec<_> =
        messages.iter().map(|message| message["payload"].as_str().unwrap_or_default()).collect();
    assert_eq!(payloads, ["no. 1", "no. 2", "no. 3"]);
    assert_eq!((&messages[1]["topic"], &messages[1]["meta"]["number"]), (&"a/b".into(), &2.into()));
    assert_eq!(messages[1]["headers"], serde_json::json!([["age", "old"]]));

    tracemq.cmd(["pub", &url, "a/b", "hello"]).finish().expect(0);
    tracemq.cmd(["pub", &url, "a/b", "refuse"]).finish().expect_failure(1, &["it asked for it"]);
    let done = tracemq.cmd(["request", &url, "a/b", "what?", "--format", "raw"]).finish().expect(0);
    assert_eq!(done.text(), "what?\n");
    let done = tracemq.cmd(["list", &url]).finish().expect(0);
    assert!(done.text().contains("old"), "{done:?}");
    tracemq
        .cmd(["pub", &format!("{scheme}://nowhere"), "a/b", "x"])
        .finish()
        .expect_failure(3, &["nobody lives there", "0x01"]);
    let server = tracemq.cmd(["serve", scheme]).start();
    server.wait_stdout("old://here");
    server.wait_stdout("served");
    server.interrupt().expect(0);
}

#[test]
fn a_plugin_of_1_0_runs_in_todays_host() {
    runs_in_todays_host(&old_api().join("libold_plugin.so"), "old");
}

#[test]
fn a_plugin_of_1_0_has_no_import_in_a_later_host() {
    let lines = in_host(&grown_api().join("grown-host"), &old_api().join("libold_plugin.so"), "old://here");
    assert_eq!(lines.last().map(String::as_str), Some("closed, mood None, weight 99, import None"));
}

#[test]
fn a_plugin_of_a_later_api_runs_in_todays_host() {
    let library = grown_api().join("libgrown_plugin.so");
    runs_in_todays_host(&library, "grown");
    let tracemq = Tracemq::new();
    tracemq.add_plugin(&library);
    let done = tracemq.cmd(["plugin", "info", "grown"]).finish().expect(0);
    assert!(done.text().contains("1.2.0 (this tracemq: 1.1.0)"), "{done:?}");
}

/// What a host built on the frozen API, or on a later one, made of a plugin.
fn in_host(host: &Path, library: &Path, url: &str) -> Vec<String> {
    Cmd::new(host).arg(library).arg(url).finish().expect(0).lines()
}

const LOOPBACK: [&str; 13] = [
    "describe loopback api 1.1.0",
    "event connected",
    "outcome true ",
    "outcome true ",
    "outcome true ",
    "message a/b one",
    "header colour blue",
    "message a/b two",
    "header colour blue",
    "message a/b three",
    "header colour blue",
    "answer what?",
    "list",
];

#[test]
fn todays_plugin_runs_in_a_host_of_1_0() {
    let lines = in_host(&old_api().join("old-host"), &fixture("loopback"), "loopback://");
    let (list, start) = (&lines[12], &lines[..12]);
    assert_eq!(start, &LOOPBACK[..12]);
    assert!(list.starts_with("list {\"columns\":[\"option\",\"value\"]"), "{list}");
    assert_eq!(lines[13..], ["closed"]);
}

#[test]
fn todays_plugin_runs_in_a_later_host_which_does_without_what_it_lacks() {
    let lines = in_host(&grown_api().join("grown-host"), &fixture("loopback"), "loopback://");
    assert_eq!(lines[..12], LOOPBACK[..12]);
    assert_eq!(lines[13..], ["closed, mood None, weight 99, import Some(\"null\")"]);
    // A plugin that has it, for comparison.
    let lines = in_host(&grown_api().join("grown-host"), &grown_api().join("libgrown_plugin.so"), "grown://");
    assert_eq!(
        lines.last().map(String::as_str),
        Some("closed, mood Some(\"cheerful\"), weight 99, import Some(\"null\")")
    );
}

#[test]
fn a_later_plugin_runs_in_a_host_of_1_0() {
    let lines = in_host(&old_api().join("old-host"), &grown_api().join("libgrown_plugin.so"), "grown://");
    assert_eq!(lines.first().map(String::as_str), Some("describe grown api 1.2.0"));
    assert_eq!(lines.last().map(String::as_str), Some("closed"));
}

#[test]
fn a_plugin_whose_types_differ_is_refused_in_one_line() {
    let tracemq = Tracemq::new();
    let path = tracemq.drop_in(&broken_api().join("libbroken_plugin.so"));
    let done = tracemq.cmd(["plugin", "trust"]).arg(&path).finish().expect(7);
    let reason = done.reason();
    for part in [
        "incompatible plugin API 1.0.0 (host: 1.1.0)",
        "Record",
        "size 80 in the host, 88 in the plugin",
        "rebuild it",
    ] {
        assert!(reason.contains(part), "{part}\n{done:?}");
    }
    assert!(reason.len() < 600, "one line that can be read\n{done:?}");
}

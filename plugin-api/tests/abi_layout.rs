//! What was frozen with 1.0: every type that crosses, with its size, alignment, fields and functions.
//!
//! The list is read from what a plugin library carries of its own types, so that private fields and the tables of the traits
//! are in it, and nothing can be forgotten. It is kept for 64-bit targets, on which the sizes hold.
#![cfg(target_pointer_width = "64")]

use abi_stable::StableAbi;
use abi_stable::std_types::utypeid::UTypeId;
use abi_stable::type_layout::{TLField, TLFunction, TypeLayout};
use std::collections::BTreeSet;
use std::fmt::Write;
use tracemq_plugin_api::abi::PluginRef;

const FROZEN: &str = include_str!("abi-1.0.txt");

#[test]
fn the_types_that_cross_are_those_of_1_0() {
    let now = snapshot();
    if std::env::var_os("TRACEMQ_NEW_ABI_SNAPSHOT").is_some() {
        // Until 1.0.0 is released, and afterwards for what was added.
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/abi-1.0.txt"), &now)
            .expect("it can be written");
        return;
    }
    if now != FROZEN {
        let (frozen, now): (BTreeSet<_>, BTreeSet<_>) = (FROZEN.lines().collect(), now.lines().collect());
        let gone: Vec<_> = frozen.difference(&now).collect();
        let new: Vec<_> = now.difference(&frozen).collect();
        panic!(
            "the ABI is no longer that of plugin-api/tests/abi-1.0.txt.\n\
             Gone or changed, which breaks every plugin there is: {gone:#?}\n\
             New, which may stand only at the end of `Plugin` or of a trait: {new:#?}"
        );
    }
}

/// One paragraph for each of our types that can be reached from the root module, in the order of their names.
fn snapshot() -> String {
    let mut seen = Vec::new();
    let mut paragraphs = BTreeSet::new();
    visit(<PluginRef as StableAbi>::LAYOUT, &mut seen, &mut |layout| {
        if is_ours(layout) {
            paragraphs.insert(paragraph(layout));
        }
        true
    });
    paragraphs.into_iter().collect::<Vec<_>>().join("\n")
}

/// Calls `on` for each type once, and goes on with its parts where that returns true.
fn visit(
    layout: &'static TypeLayout,
    seen: &mut Vec<UTypeId>,
    on: &mut dyn FnMut(&'static TypeLayout) -> bool,
) {
    // Not the name: the layouts of two instances of one generic type are called the same.
    let id = layout.get_utypeid();
    if seen.contains(&id) {
        return;
    }
    seen.push(id);
    if on(layout) {
        for field in fields(layout).into_iter().chain(layout.phantom_fields().iter()) {
            visit(field.layout(), seen, on);
            for function in field.function_range().iter() {
                function.param_type_layouts.iter().for_each(|parameter| visit(parameter(), seen, on));
                if let Some(returned) = function.return_type_layout() {
                    visit(returned(), seen, on);
                }
            }
        }
    }
}

fn is_ours(layout: &TypeLayout) -> bool {
    layout.package().as_str() == env!("CARGO_PKG_NAME")
}

fn fields(layout: &TypeLayout) -> Vec<TLField> {
    layout.get_fields().map(|fields| fields.iter().collect()).unwrap_or_default()
}

fn paragraph(layout: &TypeLayout) -> String {
    // What grows at its end has no size to be kept.
    let size = match layout.is_prefix_kind() {
        true => "may grow".to_owned(),
        false => format!("size {} align {}", layout.size(), layout.alignment()),
    };
    let mut text = format!("{} in {}: {size}\n", name(layout), layout.mod_path());
    let mut offset: usize = 0;
    for field in fields(layout) {
        let (size, alignment) = (field.layout().size(), field.layout().alignment());
        offset = offset.next_multiple_of(alignment);
        let functions: Vec<String> =
            field.function_range().iter().map(|function| signature(&function)).collect();
        let what = if functions.is_empty() { described(field.layout()) } else { functions.join(", ") };
        writeln!(text, "  {offset:3} {} size {size}: {what}", field.name())
            .expect("a String takes every text");
        offset += size;
    }
    text
}

fn signature(function: &TLFunction) -> String {
    let parameters: Vec<String> =
        function.param_type_layouts.iter().map(|parameter| described(parameter())).collect();
    let returned =
        function.return_type_layout().map_or_else(|| "()".to_owned(), |layout| described(layout()));
    format!("fn({}) -> {returned}", parameters.join(", "))
}

fn name(layout: &TypeLayout) -> String {
    layout.full_type().to_string()
}

/// A type's name and, since those of foreign generic types do not name their arguments, which of our types it holds.
fn described(layout: &'static TypeLayout) -> String {
    let mut held = BTreeSet::new();
    if !is_ours(layout) {
        visit(layout, &mut Vec::new(), &mut |inner| {
            if is_ours(inner) || inner.name() == "RString" && !std::ptr::eq(inner, layout) {
                held.insert(name(inner));
                return false;
            }
            true
        });
    }
    held.remove(&name(layout));
    match held.is_empty() {
        true => name(layout),
        false => format!("{} of {}", name(layout), held.into_iter().collect::<Vec<_>>().join(" and ")),
    }
}

//! PATCH and iPATCH of JSON resources (RFC 8132): JSON Merge Patch (RFC 7396) and JSON Patch (RFC 6902).
//!
//! A patch of some hundred bytes could copy a resource into itself until the memory is full, or nest it until the stack is:
//! what is copied, how deep it stands and how much is done are bounded.

use serde_json::{Map, Value};
use tracemq_plugin_api::serde_json;

/// `application/json-patch+json`.
pub const JSON_PATCH: u16 = 51;
/// `application/merge-patch+json`.
pub const MERGE_PATCH: u16 = 52;

/// As deep as serde_json reads.
const DEEPEST: usize = 127;
/// Operations of one patch: each may look at the whole resource.
const OPERATIONS: usize = 1000;

/// Why a patch was not applied, in the terms of RFC 8132 section 2.2.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The patch itself can't be read: 4.00.
    Malformed(String),
    /// It does not fit the resource's state: 4.09.
    Conflict(String),
    /// It does too much: 4.13.
    TooLarge,
}

/// What the resource is afterwards, at most about so many bytes. All of the patch is applied, or nothing.
///
/// # Errors
/// See [`Failure`].
pub fn apply(target: &[u8], patch: &[u8], format: u16, largest: usize) -> Result<Vec<u8>, Failure> {
    let patch =
        serde_json::from_slice(patch).map_err(|error| Failure::Malformed(format!("the patch: {error}")))?;
    let mut value: Value = serde_json::from_slice(target)
        .map_err(|error| Failure::Conflict(format!("the resource is not JSON: {error}")))?;
    if format == MERGE_PATCH {
        merge(&mut value, patch);
    } else {
        let Value::Array(operations) = patch else {
            return Err(Failure::Malformed("a JSON patch is a list of operations".into()));
        };
        if operations.len() > OPERATIONS {
            return Err(Failure::TooLarge);
        }
        let mut room = largest;
        for (number, operation) in operations.iter().enumerate() {
            let named = |text: String| format!("operation {}: {text}", number + 1);
            operate(&mut value, operation, &mut room).map_err(|failure| match failure {
                Failure::Malformed(text) => Failure::Malformed(named(text)),
                Failure::Conflict(text) => Failure::Conflict(named(text)),
                Failure::TooLarge => Failure::TooLarge,
            })?;
        }
    }
    Ok(value.to_string().into_bytes())
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(members) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(object) = target else { return };
    for (name, value) in members {
        if value.is_null() {
            object.shift_remove(&name);
        } else {
            merge(object.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// `room` are the bytes that may still be copied.
fn operate(target: &mut Value, operation: &Value, room: &mut usize) -> Result<(), Failure> {
    let text = |name: &str| {
        let found = operation.get(name).and_then(Value::as_str);
        found.ok_or_else(|| Failure::Malformed(format!("\"{name}\" is missing, or no text")))
    };
    let value = || {
        let found = operation.get("value").cloned();
        found.ok_or_else(|| Failure::Malformed("\"value\" is missing".into()))
    };
    let path = text("path")?;
    match text("op")? {
        "add" => add(target, path, value()?),
        "remove" => remove(target, path).map(drop),
        "replace" => {
            let place = at(target, path)?;
            let value = value()?;
            fits(path, &value)?;
            *place = value;
            Ok(())
        }
        "move" => {
            let from = text("from")?;
            if path.strip_prefix(from).is_some_and(|rest| rest.starts_with('/')) {
                return Err(Failure::Conflict(format!("{from} can't be moved into itself")));
            }
            let moved = remove(target, from)?;
            add(target, path, moved)
        }
        "copy" => {
            let copied = at(target, text("from")?)?;
            *room = room.checked_sub(copied.to_string().len()).ok_or(Failure::TooLarge)?;
            let copied = copied.clone();
            add(target, path, copied)
        }
        "test" => {
            let (found, wanted) = (at(target, path)?, value()?);
            if *found == wanted {
                Ok(())
            } else {
                Err(Failure::Conflict(format!("{path} is {found}, not {wanted}")))
            }
        }
        op => Err(Failure::Malformed(format!("\"{op}\" is no operation"))),
    }
}

/// Whether it stands no deeper than it may.
fn fits(path: &str, value: &Value) -> Result<(), Failure> {
    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
            Value::Object(object) => 1 + object.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }
    if path.matches('/').count() + depth(value) > DEEPEST { Err(Failure::TooLarge) } else { Ok(()) }
}

fn nothing(path: &str) -> Failure {
    Failure::Conflict(format!("there is nothing at {path:?}"))
}

fn at<'v>(target: &'v mut Value, path: &str) -> Result<&'v mut Value, Failure> {
    target.pointer_mut(path).ok_or_else(|| nothing(path))
}

/// The place that holds a path's last part, and that part's name.
fn parent<'v>(target: &'v mut Value, path: &str) -> Result<(&'v mut Value, String), Failure> {
    let (parent, name) = path.rsplit_once('/').ok_or_else(|| nothing(path))?;
    Ok((at(target, parent)?, name.replace("~1", "/").replace("~0", "~")))
}

/// An index as RFC 6901 writes it: without leading zeros.
fn index(name: &str, most: usize) -> Option<usize> {
    let plain = name == "0" || (!name.starts_with(['0', '+']) && !name.is_empty());
    name.parse().ok().filter(|index| plain && *index <= most)
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), Failure> {
    fits(path, &value)?;
    if path.is_empty() {
        *target = value;
        return Ok(());
    }
    let (parent, name) = parent(target, path)?;
    match parent {
        Value::Object(object) => {
            object.insert(name, value);
        }
        Value::Array(list) if name == "-" => list.push(value),
        Value::Array(list) => {
            let index = index(&name, list.len()).ok_or_else(|| nothing(path))?;
            list.insert(index, value);
        }
        _ => return Err(nothing(path)),
    }
    Ok(())
}

fn remove(target: &mut Value, path: &str) -> Result<Value, Failure> {
    if path.is_empty() {
        return Ok(std::mem::take(target));
    }
    let (parent, name) = parent(target, path)?;
    let removed = match parent {
        Value::Object(object) => object.shift_remove(&name),
        Value::Array(list) => {
            let most = list.len().checked_sub(1);
            most.and_then(|most| index(&name, most)).map(|index| list.remove(index))
        }
        _ => None,
    };
    removed.ok_or_else(|| nothing(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(target: &str, patch: &str, format: u16) -> Result<String, Failure> {
        let bytes = apply(target.as_bytes(), patch.as_bytes(), format, 1000)?;
        Ok(String::from_utf8(bytes).expect("JSON is text"))
    }

    /// RFC 7396, appendix A.
    #[test]
    fn merge_patches_of_the_rfc() {
        for (target, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            (r#"[1,2]"#, r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            (r#"{}"#, r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            assert_eq!(patched(target, patch, MERGE_PATCH).as_deref(), Ok(result), "{target} {patch}");
        }
    }

    /// After RFC 6902, appendix A.
    #[test]
    fn operations_of_a_json_patch() {
        for (target, patch, result) in [
            (
                r#"{"foo":"bar"}"#,
                r#"[{"op":"add","path":"/baz","value":"qux"}]"#,
                r#"{"foo":"bar","baz":"qux"}"#,
            ),
            (
                r#"{"foo":["a","c"]}"#,
                r#"[{"op":"add","path":"/foo/1","value":"b"}]"#,
                r#"{"foo":["a","b","c"]}"#,
            ),
            (r#"{"a":1,"b":2}"#, r#"[{"op":"remove","path":"/b"}]"#, r#"{"a":1}"#),
            (r#"{"a":[1,2]}"#, r#"[{"op":"remove","path":"/a/0"}]"#, r#"{"a":[2]}"#),
            (r#"{"a":1}"#, r#"[{"op":"replace","path":"/a","value":2}]"#, r#"{"a":2}"#),
            (
                r#"{"a":{"b":1},"c":{}}"#,
                r#"[{"op":"move","from":"/a/b","path":"/c/d"}]"#,
                r#"{"a":{},"c":{"d":1}}"#,
            ),
            (r#"{"a":1}"#, r#"[{"op":"copy","from":"/a","path":"/b"}]"#, r#"{"a":1,"b":1}"#),
            (r#"{"a~/":1}"#, r#"[{"op":"test","path":"/a~0~1","value":1}]"#, r#"{"a~/":1}"#),
            (r#"{"a":[]}"#, r#"[{"op":"add","path":"/a/-","value":1}]"#, r#"{"a":[1]}"#),
            (r#"1"#, r#"[{"op":"add","path":"","value":[]}]"#, "[]"),
        ] {
            assert_eq!(patched(target, patch, JSON_PATCH).as_deref(), Ok(result), "{target} {patch}");
        }
    }

    #[test]
    fn a_patch_that_grows_without_end_is_refused() {
        let copies = |operation: &str, count| format!("[{}]", vec![operation; count].join(","));
        let doubling = copies(r#"{"op":"copy","from":"","path":"/-"}"#, 50);
        assert_eq!(patched("[1,2,3]", &doubling, JSON_PATCH), Err(Failure::TooLarge));
        let deeper = format!("{}{}", "[".repeat(100), "]".repeat(100));
        let nesting = format!(r#"[{{"op":"add","path":"{}/0","value":{deeper}}}]"#, "/0".repeat(50));
        let deep = format!("{}{}", "[".repeat(51), "]".repeat(51));
        assert_eq!(patched(&deep, &nesting, JSON_PATCH), Err(Failure::TooLarge));
        let busy = copies(r#"{"op":"test","path":"","value":1}"#, 1001);
        assert_eq!(patched("1", &busy, JSON_PATCH), Err(Failure::TooLarge));
    }

    #[test]
    fn what_does_not_fit_changes_nothing_and_is_told() {
        for (target, patch) in [
            (r#"{"a":1}"#, r#"[{"op":"test","path":"/a","value":2}]"#),
            (r#"{"a":1}"#, r#"[{"op":"remove","path":"/b"}]"#),
            (r#"{"a":[1]}"#, r#"[{"op":"remove","path":"/a/1"}]"#),
            (r#"{"a":[]}"#, r#"[{"op":"remove","path":"/a/0"}]"#),
            (r#"{"a":[1]}"#, r#"[{"op":"add","path":"/a/3","value":1}]"#),
            (r#"{"a":[1]}"#, r#"[{"op":"add","path":"/a/00","value":1}]"#),
            (r#"{"a":1}"#, r#"[{"op":"add","path":"/a/b","value":1}]"#),
            (r#"{"a":{}}"#, r#"[{"op":"move","from":"/a","path":"/a/b"}]"#),
            ("text", r#"[]"#),
        ] {
            let failure = patched(target, patch, JSON_PATCH).unwrap_err();
            assert!(matches!(failure, Failure::Conflict(_)), "{target} {patch}: {failure:?}");
        }
        for patch in ["", "{}", r#"[{"op":"add","path":"/a"}]"#, r#"[{"op":"grow","path":"/a"}]"#, r#"[1]"#] {
            let failure = patched(r#"{"a":1}"#, patch, JSON_PATCH).unwrap_err();
            assert!(matches!(failure, Failure::Malformed(_)), "{patch}: {failure:?}");
        }
    }
}

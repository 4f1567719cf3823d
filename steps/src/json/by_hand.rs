//! Commands that a person can type to take a change back. They use Python, which hosts have far more often than `jq`.
//! Each looks first whether what it is about to change still is what was seen, keeps numbers as they are written, and
//! replaces the document whole: one that fails changes nothing.

use super::{
    store::Place,
    tree::{Document, Kind, Node},
};
use engine::host::{shell_path, shell_word};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt::Write as _};

/// What a person has to name: the document, its lock, and the record of how to take the change back.
#[derive(Clone, Debug, Default)]
pub(super) struct Hand {
    pub(super) document: String,
    pub(super) lock: String,
    pub(super) record: String,
    /// Whether the earlier value stands in the record alone: too long for a command, or secret.
    pub(super) by_record: bool,
}

/// Reads the document `d` under the lock `l` as `w`, with its numbers as texts that begin with a NUL.
const READ: &str = "import fcntl,functools,hashlib,json,os,re,shutil,sys;d,l,h,v,*p=sys.argv[1:];f=open(l);\
                    fcntl.flock(f,2);b=open(d,\"rb\").read();u=b[:3]==b\"\\xef\\xbb\\xbf\";\
                    b\"\\\\u0000\" in b and sys.exit(\"it holds a NUL: edit it by hand\");n=lambda x:\"\\0\"+x;\
                    P=lambda s:json.loads(s,parse_int=n,parse_float=n);w=P(b.decode(\"utf-8-sig\"))";
/// Goes to the parent `t` of the place `k`, where the value must have the hash `h`, be absent, or be any.
const FIND: &str = "t=functools.reduce(lambda t,k:t[int(k) if isinstance(t,list) else k],p[:-1],w);\
                    k=int(p[-1]) if isinstance(t,list) else p[-1];\
                    g=hashlib.sha256(json.dumps(t[k],sort_keys=True).encode()).hexdigest() \
                    if (k<len(t) if isinstance(t,list) else k in t) else \"\";\
                    h in(\"*\",g) or sys.exit(\"changed since: edit it by hand\");\
                    v=json.load(open(v[1:]))[\"earlier\"] if v[:1]==\"@\" else v";
/// Writes the document `w`, with owner, mode and access list of the one that is there.
const WRITE: &str = "s=re.sub(r'\"\\\\u0000([^\"]*)\"',r\"\\1\",json.dumps(w,ensure_ascii=False,indent=2));\
                     e=d+\".by-hand\";os.umask(63);o=open(e,\"wb\");\
                     o.write((b\"\\xef\\xbb\\xbf\" if u else b\"\")+s.encode()+b\"\\n\");o.flush();os.fsync(o.fileno());\
                     m=os.stat(d);os.chown(e,m.st_uid,m.st_gid);shutil.copystat(d,e);os.replace(e,d)";

fn python(hand: &Hand, at: &[String], hash: &str, value: &str, does: &str) -> String {
    let script = format!("{READ};{FIND};{does};{WRITE}");
    let first = [script.as_str(), &hand.document, &hand.lock, hash, value];
    let words = first.into_iter().chain(at.iter().map(String::as_str));
    format!("python3 -c {}", words.map(shell_word).collect::<Vec<_>>().join(" "))
}

/// Shows the document.
pub(super) fn look(hand: &Hand) -> String {
    format!("python3 -m json.tool {}", shell_word(&hand.document))
}

/// Shows what was there before.
pub(super) fn look_at_record(hand: &Hand) -> String {
    let script = "import json,sys;print(json.load(open(sys.argv[1]))[\"earlier\"])";
    format!("python3 -c {} {}", shell_word(script), shell_word(&hand.record))
}

/// Deletes what is at `at`, if it is what `document` has there.
pub(super) fn delete(hand: &Hand, document: &Document, at: &[String]) -> String {
    if at.is_empty() { look(hand) } else { python(hand, at, &seen(document, at), "", "t.pop(k)") }
}

/// Puts an earlier value to `at`, given as JSON; into an array before the one that is there, if it was `removed`.
pub(super) fn put(hand: &Hand, document: &Document, at: &[String], raw: &str, removed: bool) -> String {
    if at.is_empty() {
        return if hand.by_record { look_at_record(hand) } else { look(hand) };
    }
    let in_array = super::pointer::find(&document.root, &at[..at.len() - 1])
        .is_some_and(|parent| matches!(parent.kind, Kind::Array(_)));
    let hash = if removed && in_array { "*".to_owned() } else { seen(document, at) };
    let does = match removed {
        true => "t.insert(k,P(v)) if isinstance(t,list) else t.__setitem__(k,P(v))",
        false => "t[k]=P(v)",
    };
    if !hand.by_record {
        return python(hand, at, &hash, raw, does);
    }
    let command = python(hand, at, &hash, &format!("@{}", hand.record), does);
    format!("{command} && rm -f -- {}", shell_word(&hand.record))
}

/// The hash of what the document has there; empty if it has nothing.
fn seen(document: &Document, at: &[String]) -> String {
    let Some(node) = super::pointer::find(&document.root, at) else { return String::new() };
    let mut text = String::new();
    canonical(document, node, &mut text);
    crate::hex::hex(&Sha256::digest(text.as_bytes()))
}

/// As Python's `json.dumps` with sorted keys writes it, where numbers were read as texts that begin with a NUL.
fn canonical(document: &Document, node: &Node, to: &mut String) {
    match &node.kind {
        Kind::Null => to.push_str("null"),
        Kind::Bool(truth) => to.push_str(if *truth { "true" } else { "false" }),
        Kind::Number => string(&format!("\0{}", document.raw(node)), to),
        Kind::String(text) => string(text, to),
        Kind::Array(items) => {
            to.push('[');
            for (i, item) in items.iter().enumerate() {
                to.push_str(if i > 0 { ", " } else { "" });
                canonical(document, item, to);
            }
            to.push(']');
        }
        Kind::Object(members) => {
            let sorted: BTreeMap<&str, &Node> =
                members.iter().map(|member| (member.key.as_str(), &member.value)).collect();
            to.push('{');
            for (i, (key, value)) in sorted.into_iter().enumerate() {
                to.push_str(if i > 0 { ", " } else { "" });
                string(key, to);
                to.push_str(": ");
                canonical(document, value, to);
            }
            to.push('}');
        }
    }
}

fn string(text: &str, to: &mut String) {
    to.push('"');
    for unit in text.encode_utf16() {
        match unit {
            0x22 => to.push_str("\\\""),
            0x5c => to.push_str("\\\\"),
            0x0a => to.push_str("\\n"),
            0x0d => to.push_str("\\r"),
            0x09 => to.push_str("\\t"),
            0x08 => to.push_str("\\b"),
            0x0c => to.push_str("\\f"),
            0x20..=0x7e => to.extend(char::from_u32(u32::from(unit))),
            _ => {
                let _cannot_fail = write!(to, "\\u{unit:04x}");
            }
        }
    }
    to.push('"');
}

/// Takes the whole step back by its record, if the document is as the step left it.
pub(super) fn restore(place: &Place, lock: &str) -> String {
    let script = "import fcntl,hashlib,json,os,shutil,sys;d,l,r=sys.argv[1:];r=json.load(open(r));f=open(l);\
                  fcntl.flock(f,2);b=open(d,\"rb\").read();\
                  h=hashlib.sha256(b).hexdigest();h==r[\"after\"] or sys.exit(\"changed since: edit it by hand\");\
                  a=r[\"at\"];n=b[:a]+r[\"removed\"].encode()+b[a+r[\"inserted\"]:];c=r[\"created\"];\
                  e=d+\".by-hand\";os.umask(63);o=open(e,\"wb\");o.write(n);o.flush();os.fsync(o.fileno());\
                  m=os.stat(d);os.chown(e,m.st_uid,m.st_gid);shutil.copystat(d,e);\
                  os.replace(e,d);c and os.remove(d)";
    let record = place.record_file();
    let words = [script, &place.path, lock, &record.to_string_lossy()];
    let python = words.map(shell_word).join(" ");
    let files = place.files().map(|path| shell_path(&path)).join(" ");
    format!("python3 -c {python} && rm -f -- {files}")
}

//! Commands that a person can type to take a change back. They use Python, which hosts have far more often than `jq`.

use super::store::Place;
use engine::host::shell_word;

/// The longest value that is put into a command, in bytes.
const LONGEST: usize = 4 << 10;

/// What a person has to name: the document and its lock.
#[derive(Clone, Debug, Default)]
pub(super) struct Hand {
    pub(super) document: String,
    pub(super) lock: String,
}

/// Takes the lock, reads the document, goes to the parent `t` of the place `k`, does something, writes it.
fn python(hand: &Hand, at: &[String], more: &str, does: &str) -> String {
    let script = format!(
        "import fcntl,json,sys;d,l,v,*p=sys.argv[1:];f=open(l);fcntl.flock(f,2);t=w=json.load(open(d))\n\
         for k in p[:-1]:t=t[int(k) if isinstance(t,list) else k]\n\
         k=int(p[-1]) if isinstance(t,list) else p[-1];{does};s=json.dumps(w,ensure_ascii=False,indent=2);\
         open(d,\"w\").write(s+\"\\n\")"
    );
    let first = [script.as_str(), &hand.document, &hand.lock, more];
    let words = first.into_iter().chain(at.iter().map(String::as_str));
    format!("python3 -c {}", words.map(shell_word).collect::<Vec<_>>().join(" "))
}

/// Shows the document.
pub(super) fn look(hand: &Hand) -> String {
    format!("python3 -m json.tool {}", shell_word(&hand.document))
}

/// Deletes what is at `at`.
pub(super) fn delete(hand: &Hand, at: &[String]) -> String {
    if at.is_empty() { look(hand) } else { python(hand, at, "", "t.pop(k)") }
}

/// Puts a value to `at`, given as JSON; into an array before the one that is there, if it was `removed`.
pub(super) fn put(hand: &Hand, at: &[String], raw: &str, removed: bool) -> String {
    if at.is_empty() || raw.len() > LONGEST {
        return look(hand);
    }
    let does = match removed {
        true => "t.insert(k,json.loads(v)) if isinstance(t,list) else t.__setitem__(k,json.loads(v))",
        false => "t[k]=json.loads(v)",
    };
    python(hand, at, raw, does)
}

/// Takes the whole step back by its record, if the document is as the step left it.
pub(super) fn restore(place: &Place, lock: &str) -> String {
    let script = "import fcntl,hashlib,json,os,sys;d,l,r=sys.argv[1:];r=json.load(open(r));f=open(l);\
                  fcntl.flock(f,2);b=open(d,\"rb\").read();\
                  h=hashlib.sha256(b).hexdigest();h==r[\"after\"] or sys.exit(\"changed since: edit it by hand\");\
                  a=r[\"at\"];n=b[:a]+r[\"removed\"].encode()+b[a+r[\"inserted\"]:];\
                  os.remove(d) if r[\"created\"] else open(d,\"wb\").write(n)";
    let record = place.record_file();
    let words = [script, &place.path, lock, &record.to_string_lossy()];
    let python = words.map(shell_word).join(" ");
    let files = place.files().map(|path| shell_word(&path.to_string_lossy())).join(" ");
    format!("python3 -c {python} && rm -f -- {files}")
}

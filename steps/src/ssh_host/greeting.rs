//! What a connection is asked first: which machine it leads to, and how commands can be kept together there.

use super::guard::nothing_of_the_users;
use engine::host::{Exec, Output};
use sha2::{Digest as _, Sha256};

/// Tells what a machine is known by, a line each. It starts next to no programs, for it goes before all else, and
/// makes and changes nothing but, with `$1`, a scope that ends at once.
const GREETING: &str = r#"
o=; for f in /etc/machine-id /var/lib/dbus/machine-id; do
  m=; [ -r "$f" ] && read -r m <"$f"
  case $m in ''|uninitialized) ;; *) [ -z "$o" ] && o=1 && printf 'machine-id %s\n' "$m" ;; esac
done
for f in /etc/ssh/ssh_host_*_key.pub /etc/dropbear/*.pub; do
  [ -z "$o" ] && [ -r "$f" ] && while read -r a b c; do printf 'key %s\n' "$a $b"; done <"$f"
done
for f in /sys/class/net/*/address; do
  m=; [ -z "$o" ] && [ -r "$f" ] && read -r m <"$f"
  case $m in ''|00:00:00:00:00:00) ;; *) printf 'net %s\n' "$m" ;; esac
done
m=; [ -r /proc/sys/kernel/hostname ] && read -r m </proc/sys/kernel/hostname
[ -n "$m" ] || m=$(uname -n)
printf 'name %s\n' "$m"
printf 'uid %s\n' "$(id -u)"
printf 'space %s\n' "$(readlink /proc/self/ns/pid 2>/dev/null)"
[ -r /proc/self/mountinfo ] || exit 0
r=
while read -r a b c r p x; do
  case $x in *' - cgroup2 '*) break ;; esac
  r=
done </proc/self/mountinfo
[ -n "$r" ] || exit 0
case $r in /) r= ;; esac
while read -r x; do case $x in 0::*) o=${x#0::} ;; esac; done </proc/self/cgroup
g=$p${o#"$r"}; g=${g%/}
if [ -w "$g" ] && [ -w "$g/cgroup.procs" ]; then printf 'groups own %s\n' "$p:$r"
elif [ -n "$1" ] && [ -S "${XDG_RUNTIME_DIR:-/}/bus" ] && command -v systemd-run >/dev/null &&
  systemd-run --user --scope --quiet --collect -p Delegate=yes -- true >/dev/null 2>&1
then printf 'groups scope %s\n' "$p:$r"
fi
exit 0
"#;

/// How the processes of a command are kept together on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Groups {
    /// By a mark in their environment and by their process group: one that clears the one and leaves the other is lost.
    #[default]
    None,
    /// In a control group below that of the login.
    Own(Hierarchy),
    /// In a control group below a scope that the user's service manager makes for each command.
    Scope(Hierarchy),
}

/// Where a machine has its control groups of version 2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Where they are mounted.
    pub(super) point: String,
    /// Which of them is mounted there; empty for the topmost.
    pub(super) root: String,
}

/// A machine, as it tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    /// The same for the same machine, whatever led there; nothing if it has nothing to be known by.
    pub(super) identity: Option<String>,
    /// The same for all who see the same processes there and may end them.
    pub(super) view: String,
    pub(super) groups: Groups,
}

/// The command that asks; without `groups` it leaves no trace at all.
pub(super) fn greeting(groups: bool) -> Exec {
    let may = if groups { "1" } else { "" };
    nothing_of_the_users(["/bin/sh", "-c", GREETING, "greeting", may]).repeatable()
}

impl Machine {
    pub(super) fn read(output: &Output, groups: bool) -> Self {
        let text = output.stdout_text();
        let all = |key: &str| -> Vec<&str> {
            let mut found: Vec<&str> =
                text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).collect();
            found.sort_unstable();
            found
        };
        let first = |key: &str| all(key).first().map_or("", |value| *value);
        let name = first("name");
        let known_by = [("machine-id", all("machine-id")), ("keys", all("key")), ("net", all("net"))];
        let identity = known_by.into_iter().find(|(_, values)| !values.is_empty()).map(|(what, values)| {
            // Machines that were copied from each other share their machine-id, but seldom their name.
            let digest = Sha256::digest(values.join("\n"));
            format!("{name} ({what} {})", crate::hex::hex(&digest[..16]))
        });
        let view = format!("{} {} {}", identity.as_deref().unwrap_or(name), first("uid"), first("space"));
        let groups = match first("groups").split_once(' ') {
            Some((how, place)) if groups => {
                let (point, root) = place.split_once(':').unwrap_or((place, ""));
                let place = Hierarchy { point: point.to_owned(), root: root.to_owned() };
                if how == "own" { Groups::Own(place) } else { Groups::Scope(place) }
            }
            _ => Groups::None,
        };
        Self { identity, view, groups }
    }
}

#[cfg(test)]
mod tests {
    use super::{Groups, Hierarchy, Machine};
    use engine::host::Output;

    fn read(text: &str) -> Machine {
        Machine::read(&Output { stdout: text.as_bytes().to_vec(), ..Output::default() }, true)
    }

    #[test]
    fn a_machine_is_known_by_its_id_and_name_or_else_by_its_keys_in_any_order() {
        let id = read("machine-id 0123\nname nas\nuid 0\nspace pid:[1]\n").identity.expect("known");
        assert!(id.starts_with("nas (machine-id ") && !id.contains("0123"), "{id}");
        assert_ne!(Some(id), read("machine-id 0123\nname copy\n").identity);
        let keys = read("key a x\nkey b y\nnet 02:00:00:00:00:01\nname nas\n").identity;
        assert_eq!(keys, read("key b y\nkey a x\nname nas\n").identity);
        assert_eq!(read("name nas\n").identity, None);
    }

    #[test]
    fn another_user_of_the_same_machine_sees_other_processes() {
        let of = |uid: &str| read(&format!("machine-id 0123\nname nas\nuid {uid}\nspace pid:[1]\n"));
        assert_eq!(of("0").identity, of("1000").identity);
        assert_ne!(of("0").view, of("1000").view);
    }

    #[test]
    fn groups_are_told_by_where_they_are_mounted() {
        let place = Hierarchy { point: "/sys/fs/cgroup".into(), root: "/lab".into() };
        assert_eq!(read("groups own /sys/fs/cgroup:/lab\n").groups, Groups::Own(place.clone()));
        assert_eq!(read("groups scope /sys/fs/cgroup:/lab\n").groups, Groups::Scope(place));
        assert_eq!(read("name nas\n").groups, Groups::None);
    }
}

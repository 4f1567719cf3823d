//! Redis: another server under the address, keys that moved, looks that are denied, deaths, and equals of others.

use tests::truth::{After, Death, Row, Server, rows};

const ALL: &str = "
prepare:
  set: { redis: { url: '@REDIS@', set: { key: 配置, value: 新 } } }
  hash: { redis: { url: '@REDIS@', hash: { key: h, fields: { f: 1, g: 二 } } } }
  push: { redis: { url: '@REDIS@', push: { key: l, values: [a, 二, a] } } }
  add: { redis: { url: '@REDIS@', add: { key: s, fields: { f: x } } } }
";
const EARLIER: &str = "redis-cli -s $REDIS SET 配置 旧 EX 5000; redis-cli -s $REDIS HSET h f 0 k 1; \
                       redis-cli -s $REDIS RPUSH l a";
const PUSH: &str = "prepare: { it: { redis: { url: '@REDIS@', push: { key: l, value: a } } } }";
const SET: &str = "prepare: { it: { redis: { url: '@REDIS@', set: { key: k, value: ours } } } }";
const ADD: &str = "prepare: { it: { redis: { url: '@REDIS@', add: { key: s, fields: { f: x } } } } }";
const HERE: Row<'static> = Row { server: Server::Redis, ..Row::HERE };

rows! {
    /// Nothing happens, and all is as it was, with types and times to live.
    all_actions_are_taken_back: Row { setup: EARLIER, playbook: ALL, says: &["left 0"], ..HERE };
    /// A list was renamed, as who works on all of it at once does.
    a_list_that_was_renamed_is_named: Row {
        playbook: PUSH,
        ready: "redis-cli -s $REDIS EXISTS l | grep -q 1",
        meanwhile: "redis-cli -s $REDIS RENAME l 处理中",
        exit: 4,
        says: &["left 1", "处理中", "was renamed"],
        differs: &["+ key 处理中"],
        typed: Some(&["+ key 处理中"]),
        over: false,
        ..HERE
    };
    /// Who may only read is told so before anything is done.
    who_may_not_write_is_refused: Row {
        setup: "redis-cli -s $REDIS ACL SETUSER reader on nopass '~*' +@read +@connection +info +multi +exec",
        playbook: &format!("precheck: {{ may: {{ redis: {{ url: '@REDIS@', user: reader, password: x, check: [reachable, writable] }} }} }}\n{SET}"),
        exit: 1,
        says: &["REFUSED", "refuses this user permission"],
        ..HERE
    };
    /// A value and an entry that were renamed.
    a_value_that_was_renamed_is_named: Row {
        setup: "redis-cli -s $REDIS SET other x",
        playbook: SET,
        ready: "redis-cli -s $REDIS EXISTS k | grep -q 1",
        meanwhile: "redis-cli -s $REDIS RENAME k 'k 2'",
        exit: 4,
        says: &["left 1", "k 2"],
        differs: &["+ key k 2"],
        typed: Some(&["+ key k 2"]),
        over: false,
        ..HERE
    };
    /// The same for an entry of a stream.
    an_entry_that_was_renamed_is_named: Row {
        setup: "redis-cli -s $REDIS XADD s 1-1 a b",
        playbook: ADD,
        ready: "redis-cli -s $REDIS XLEN s | grep -q 2",
        meanwhile: "redis-cli -s $REDIS RENAME s t",
        exit: 4,
        says: &["left 1", "key `t`"],
        differs: &["- key s", "+ key t"],
        typed: Some(&["- key s", "+ key t"]),
        over: false,
        ..HERE
    };
    /// The databases were swapped: under the address is another's.
    a_database_that_was_swapped_cannot_be_told: Row {
        playbook: PUSH,
        ready: "redis-cli -s $REDIS EXISTS l | grep -q 1",
        meanwhile: "redis-cli -s $REDIS SWAPDB 0 1",
        exit: 4,
        says: &["left 0", "1 cannot be told", "other databases"],
        over: false,
        ..HERE
    };
    /// All was flushed: that is gone, and what was there before is missed.
    after_a_flush_ours_is_gone: Row {
        playbook: PUSH,
        ready: "redis-cli -s $REDIS EXISTS l | grep -q 1",
        meanwhile: "redis-cli -s $REDIS FLUSHALL",
        says: &["left 0"],
        ..HERE
    };
    /// A consumer took it.
    what_was_taken_is_gone: Row {
        playbook: PUSH,
        ready: "redis-cli -s $REDIS EXISTS l | grep -q 1",
        meanwhile: "redis-cli -s $REDIS LPOP l",
        says: &["left 0"],
        ..HERE
    };
    /// A consumer took it, and another pushed an equal one: a list does not tell them apart.
    an_equal_element_of_another_stays: Row {
        setup: "redis-cli -s $REDIS RPUSH l 7 8",
        playbook: PUSH,
        ready: "redis-cli -s $REDIS LLEN l | grep -q 3",
        meanwhile: "redis-cli -s $REDIS RPOP l; redis-cli -s $REDIS RPUSH l a",
        exit: 4,
        says: &["left 0, 1 cannot be told", "others have put elements into lists", "LRANGE l 0 -1"],
        differs: &["~ key l"],
        typed: Some(&["~ key l"]),
        over: false,
        ..HERE
    };
    /// With the run in it the element is nobody else's, whatever others push.
    an_element_of_the_run_itself_is_known: Row {
        setup: "redis-cli -s $REDIS RPUSH l 7 8",
        playbook: "prepare: { it: { redis: { url: '@REDIS@', push: { key: l, value: 'a ${{ run.id }}' } } } }",
        ready: "redis-cli -s $REDIS LLEN l | grep -q 3",
        meanwhile: "redis-cli -s $REDIS RPUSH l 9; redis-cli -s $REDIS LPOP l",
        says: &["left 0"],
        silent: &["cannot be told"],
        differs: &["~ key l"],
        ..HERE
    };
    /// Several steps on one list do not take each other for others.
    pushes_of_one_run_are_known_to_it: Row {
        setup: "redis-cli -s $REDIS RPUSH l a",
        playbook: "prepare:
  one: { redis: { url: '@REDIS@', push: { key: l, value: a } } }
  two: { redis: { url: '@REDIS@', push: { key: l, value: a, side: left } } }
  three: { redis: { url: '@REDIS@', push: { key: m, values: [b, b] } }, needs: [one, two] }
",
        says: &["left 0"],
        silent: &["cannot be told"],
        ..HERE
    };
    /// What is equal and comes after the undo is another's, and no command destroys it.
    an_equal_element_that_came_after_the_undo_stays: Row {
        playbook: "prepare:
  other:
    command: { shell: 'true' }
    undo: { redis: { url: '@REDIS@', command: [RPUSH, l, a] } }
  it: { redis: { url: '@REDIS@', push: { key: l, value: a } }, needs: [other] }
",
        says: &["left 0"],
        silent: &["still there", "LREM"],
        differs: &["+ key l"],
        ..HERE
    };
    /// What another set is shown, and what was there before is told.
    a_value_that_another_changed_is_shown: Row {
        setup: "redis-cli -s $REDIS SET k earlier",
        playbook: SET,
        ready: "redis-cli -s $REDIS GET k | grep -q ours",
        meanwhile: "redis-cli -s $REDIS SET k theirs",
        exit: 4,
        says: &["left 1", "another changed it", "SET k earlier"],
        differs: &["~ key k"],
        typed: Some(&["~ key k"]),
        over: false,
        ..HERE
    };
    /// The server became a replica of one that has nothing.
    a_replica_cannot_tell: Row {
        playbook: PUSH,
        ready: "redis-cli -s $REDIS EXISTS l | grep -q 1",
        meanwhile: "redis-cli -s $REDIS DEL l; redis-cli -s $REDIS REPLICAOF 127.0.0.1 1",
        exit: 4,
        says: &["left 0", "1 cannot be told", "is a replica of"],
        over: false,
        ..HERE
    };
    /// The user may no longer look.
    a_look_that_is_denied_cannot_be_told: Row {
        playbook: PUSH,
        ready: "redis-cli -s $REDIS EXISTS l | grep -q 1",
        meanwhile: "redis-cli -s $REDIS ACL SETUSER default resetkeys '~other:*'",
        exit: 4,
        says: &["left 0, 1 cannot be told", "refuses this user permission"],
        differs: &["+ key l"],
        over: false,
        ..HERE
    };
    /// Killed anywhere, all is as it was, and no mark is left.
    killed_anywhere_all_actions_are_taken_back: Row {
        setup: EARLIER,
        playbook: ALL,
        death: Death::Everywhere,
        ..HERE
    };
    /// Killed once more on the way back.
    killed_on_the_way_back_all_actions_are_taken_back: Row {
        setup: EARLIER,
        playbook: ALL,
        death: Death::Twice("after:add"),
        ..HERE
    };
    /// Killed before it was pushed; another has pushed an equal element since.
    an_equal_element_of_another_stays_after_a_death: Row {
        playbook: PUSH,
        death: Death::At("before:it"),
        between: "redis-cli -s $REDIS RPUSH l a",
        differs: &["+ key l"],
        ..HERE
    };
    /// The same for a value.
    an_equal_value_of_another_stays_after_a_death: Row {
        setup: "redis-cli -s $REDIS SET k earlier",
        playbook: SET,
        death: Death::At("before:it"),
        between: "redis-cli -s $REDIS SET k ours",
        differs: &["~ key k"],
        ..HERE
    };
    /// Killed after it was added; another has added an equal entry since.
    an_equal_entry_of_another_stays_after_a_death: Row {
        setup: "redis-cli -s $REDIS XADD s 1-1 a b",
        playbook: ADD,
        death: Death::At("after:it"),
        between: "redis-cli -s $REDIS XADD s '*' f x",
        differs: &["~ key s"],
        ..HERE
    };
    /// What was done before the death is not done twice.
    what_was_done_is_not_done_twice: Row {
        playbook: "prepare:
  push: { redis: { url: '@REDIS@', push: { key: l, value: a } } }
  add: { redis: { url: '@REDIS@', add: { key: s, fields: { f: x } } } }
monitor:
  one: { redis: { url: '@REDIS@', command: [LLEN, l], reads: true }, expect: out.value == 1 }
  entry: { redis: { url: '@REDIS@', command: [XLEN, s], reads: true }, expect: out.value == 1 }
",
        death: Death::Everywhere,
        after: After::Resume,
        ..HERE
    };
    /// An element that a consumer took between the death and the recovery is not pushed again, and not missed.
    what_was_taken_after_a_death_is_gone: Row {
        playbook: PUSH,
        death: Death::At("after:it"),
        between: "redis-cli -s $REDIS LPOP l",
        ..HERE
    };
    /// Written undos and cleanup steps leave their effect, and nothing beside it.
    what_is_final_leaves_nothing_beside_its_effect: Row {
        playbook: "
prepare:
  it:
    command: { shell: 'true' }
    undo: { redis: { url: '@REDIS@', add: { key: s, fields: { f: x } } } }
cleanup:
  set: { redis: { url: '@REDIS@', set: { key: k, value: 1 } } }
",
        says: &["left 0"],
        differs: &["+ key s", "+ key k"],
        ..HERE
    };
}

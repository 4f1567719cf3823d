//! A plan made by hand, and a history of a run of it, for the tests of what people read.

use engine::{
    error::{ErrorClass, StepError},
    event::{Intent, Outcome, Phase, Record, RunEvent, StepId, UndoMethod},
    expr::Expr,
    plan::{Forecast, PLAN_VERSION, Place, Plan, PlannedStep},
    playbook::{Body, Keep, Part, RetryPolicy, Template},
    quantity::Millis,
    step::{Description, Probe, RunInfo},
};
use serde_json::{Map, Value, json};

/// The moment at which all histories begin.
pub(crate) const START_MS: u64 = 1_737_627_300_000;

pub(crate) const DAEMON: StepId = StepId(0);
pub(crate) const QUIET: StepId = StepId(1);
pub(crate) const MEDIA: StepId = StepId(2);
pub(crate) const DIGEST: StepId = StepId(3);
pub(crate) const RECORD: StepId = StepId(4);
pub(crate) const TRANSFERRED: StepId = StepId(5);
pub(crate) const JOURNAL: StepId = StepId(6);
pub(crate) const COPY: StepId = StepId(7);

pub(crate) fn step(id: &str, phase: Phase, kind: &str, description: Description, line: usize) -> PlannedStep {
    PlannedStep {
        id: id.into(),
        base: id.into(),
        include: None,
        each: None,
        name: None,
        phase,
        needs: Vec::new(),
        reads: Vec::new(),
        when: None,
        expect: None,
        body: Body { kind: kind.into(), params: Template::Literal(json!({})), on: None },
        undo: None,
        timeout: Millis(5_000),
        retry: RetryPolicy::default(),
        keep: Keep::Never,
        continue_on_error: false,
        lock: None,
        hint: None,
        description,
        forecast: Forecast::Will,
        at: Place { line, column: 5 },
    }
}

pub(crate) fn plan_of(steps: Vec<PlannedStep>) -> Plan {
    Plan {
        version: PLAN_VERSION,
        hash: "7f3a91c0".repeat(8),
        includes: std::collections::BTreeMap::new(),
        playbook: "media-sync".into(),
        description: "A new media file reaches the NAS.".into(),
        source: "media-sync.yaml".into(),
        run: RunInfo {
            id: "01JH8Z6Q2M4N0P5R7S9T1V3W8K".into(),
            stamp: "20250123_101500".into(),
            started_at: "2025-01-23T10:15:00+00:00".into(),
            host: "edge-01".into(),
            user: "operator".into(),
            dir: "/home/operator".into(),
            exe: "/usr/bin/shakedown".into(),
        },
        params: Map::from_iter([("unit".to_owned(), json!("media-sync-daemon"))]),
        vars: Map::new(),
        inventory: None,
        hosts: Vec::new(),
        secrets: std::collections::BTreeMap::new(),
        max_parallel: 4,
        steps,
    }
}

/// The plan of the examples: two prechecks, three steps of preparation, a wait, a diagnosis, a removal.
pub(crate) fn media_sync() -> Plan {
    let hint = vec![
        Part::Text("journalctl -u ".into()),
        Part::Expr(Expr::compile("params.unit").unwrap()),
        Part::Text(" --since -10min # ".into()),
        Part::Expr(Expr::compile("steps.record.out.rowid").unwrap()),
    ];
    let file = "/data/temp/dji/media/20250123_101500_smoketest.txt";
    let mut daemon = step(
        "daemon",
        Phase::Precheck,
        "systemd",
        Description::reads("systemd media-sync-daemon is active"),
        15,
    );
    daemon.forecast = Forecast::Observed(Probe::would_pass("active"));
    let mut quiet = step(
        "quiet",
        Phase::Precheck,
        "journal",
        Description::reads("journal of media-sync-daemon, last 10m"),
        18,
    );
    quiet.forecast = Forecast::Observed(Probe::would_fail(
        "2 errors",
        StepError::expectation("`size(out.entries) == 0` is false").detail("size(out.entries) is 2"),
    ));
    quiet.hint = Some(Template::Text(hint.clone()));
    let mut media = step(
        "media",
        Phase::Prepare,
        "file",
        Description::changes(format!("create {file}, 1 KiB"), "remove it, if unchanged"),
        22,
    );
    media.retry = RetryPolicy { attempts: 3, ..RetryPolicy::default() };
    let mut digest =
        step("digest", Phase::Prepare, "hash", Description::reads(format!("sha256 of {file}")), 24);
    digest.forecast = Forecast::Unknown("known after media".into());
    digest.needs = vec![MEDIA];
    let mut record = step(
        "record",
        Phase::Prepare,
        "sqlite",
        Description::changes("insert into media_transfer_status", "delete that row"),
        26,
    );
    record.forecast = Forecast::Observed(Probe::would_pass("writable, WAL"));
    record.needs = vec![DIGEST];
    let mut transferred = step(
        "transferred",
        Phase::Monitor,
        "wait",
        Description::waits("until transfer_status == \"completed\""),
        52,
    );
    transferred.forecast = Forecast::Unknown("known in the run".into());
    transferred.timeout = Millis(720_000);
    transferred.hint = Some(Template::Text(hint));
    let mut journal =
        step("journal", Phase::OnFailure, "journal", Description::reads("journal of the daemon"), 60);
    journal.forecast = Forecast::Unknown("known in the run".into());
    let mut copy = step(
        "nas_copy",
        Phase::Cleanup,
        "file",
        Description::changes("remove /volume1/媒体/20250123_101500_smoketest.txt", ""),
        70,
    );
    copy.body.on = Some(Template::Literal(json!("nas")));
    plan_of(vec![daemon, quiet, media, digest, record, transferred, journal, copy])
}

/// Writes a history.
pub(crate) struct History {
    records: Vec<Record>,
    now_ms: u64,
}

impl History {
    pub(crate) fn new() -> Self {
        Self { records: Vec::new(), now_ms: START_MS }.then(RunEvent::RunStarted {
            version: 1,
            plan: "7f3a91c0".repeat(8),
            playbook: "media-sync".into(),
        })
    }

    pub(crate) fn then(mut self, event: RunEvent) -> Self {
        let seq = self.records.len() as u64;
        self.records.push(Record { seq, at_ms: self.now_ms, event });
        self
    }

    pub(crate) fn phase(self, phase: Phase) -> Self {
        self.then(RunEvent::PhaseStarted { phase })
    }

    pub(crate) fn start(self, step: StepId, attempt: u32) -> Self {
        self.then(RunEvent::StepStarted { step, attempt, intent: None })
    }

    /// An attempt with an effect.
    pub(crate) fn start_effect(self, step: StepId, attempt: u32) -> Self {
        let intent = Intent {
            params: json!({}),
            intent: json!({}),
            on: None,
            undo: UndoMethod::Derived,
            machines: Default::default(),
        };
        self.then(RunEvent::StepStarted { step, attempt, intent: Some(Box::new(intent)) })
    }

    pub(crate) fn end(mut self, step: StepId, attempt: u32, outcome: Outcome, took_ms: u64) -> Self {
        self.now_ms += took_ms;
        self.then(RunEvent::StepFinished { step, attempt, outcome, took_ms })
    }

    pub(crate) fn ok(self, step: StepId, summary: &str, out: Value, took_ms: u64) -> Self {
        self.start(step, 1).end(step, 1, Outcome::Done { out, summary: summary.into() }, took_ms)
    }

    pub(crate) fn ok_effect(self, step: StepId, summary: &str, out: Value, took_ms: u64) -> Self {
        self.start_effect(step, 1).end(step, 1, Outcome::Done { out, summary: summary.into() }, took_ms)
    }

    pub(crate) fn records(self) -> Vec<Record> {
        self.records
    }
}

pub(crate) fn failed(error: StepError) -> Outcome {
    Outcome::Failed { error, out: None }
}

/// The transfer fails; everything is taken back.
pub(crate) fn failed_transfer() -> Vec<Record> {
    use engine::{
        event::{Leftovers, Verdict},
        step::Undone,
    };
    let lost = StepError::expectation("transfer_status is \"failed\": rsync: connection unexpectedly closed")
        .detail("out.row.transfer_status is \"failed\"")
        .detail("out.row.last_error_message is \"rsync: connection unexpectedly closed\"");
    History::new()
        .phase(Phase::Precheck)
        .ok(DAEMON, "active", json!({ "active": "active" }), 4)
        .ok(QUIET, "0 entries", json!({ "entries": [] }), 33)
        .phase(Phase::Prepare)
        .start_effect(MEDIA, 1)
        .end(MEDIA, 1, failed(StepError::new(ErrorClass::Busy, "`/data` is busy")), 10)
        .start_effect(MEDIA, 2)
        .end(MEDIA, 2, Outcome::Done { out: json!({ "size": 1024 }), summary: "1 KiB".into() }, 3)
        .ok(DIGEST, "9f86d081…", json!({ "sha256": "9f86d081" }), 1)
        .ok_effect(RECORD, "row 17", json!({ "rowid": 17 }), 6)
        .phase(Phase::Monitor)
        .start(TRANSFERRED, 1)
        .end(TRANSFERRED, 1, failed(lost), 41_000)
        .phase(Phase::OnFailure)
        .ok(JOURNAL, "3 entries", json!({ "entries": ["a", "b", "c"] }), 20)
        .then(RunEvent::UndoStarted { step: RECORD })
        .then(RunEvent::UndoFinished { step: RECORD, result: Ok(Undone::Removed), took_ms: 2 })
        .then(RunEvent::UndoStarted { step: MEDIA })
        .then(RunEvent::UndoFinished { step: MEDIA, result: Ok(Undone::Removed), took_ms: 1 })
        .phase(Phase::Cleanup)
        .ok_effect(COPY, "nothing was there", json!({}), 12)
        .then(RunEvent::LeftoversChecked {
            leftovers: Leftovers { created: 2, removed: 2, ..Leftovers::default() },
        })
        .then(RunEvent::RunFinished { verdict: Verdict::Failed })
        .records()
}

//! The judge of "nothing is left": rows that say what happens to a run, what it must say, and what the world must be
//! like afterwards.
//!
//! The world is looked at by means of its own, before and after, and never by Shakedown: see [`world`].

mod here;
mod random;
mod sight;
pub mod world;

pub use random::{Random, Soak, Tally};

use crate::lab::until;
use world::{Said, Started, World};

/// What stands before a command that a person can type.
pub const HINTS: [&str; 2] = ["remove it with: ", "look at it with: "];

/// One situation. Write it with the rest taken from [`Row::HERE`] or [`Row::LAB`].
///
/// Lines for a shell run in the folder of the case, with `set -e`; one that begins with `nas: ` runs on the NAS. In all
/// texts `@DIR@` is the folder of the case, `@PG@` and `@REDIS@` are the addresses of the servers. `psql` needs no
/// argument for the server, `redis-cli` needs `-s $REDIS`.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Where it happens.
    pub place: Place,
    /// The server that is started for it.
    pub server: Server,
    /// What is there before: lines for a shell.
    pub setup: &'a str,
    /// The phases of the playbook. With `meanwhile` they may hold no `monitor`.
    pub playbook: &'a str,
    /// `SHAKEDOWN_FAULTS` that do not kill, such as `lose:STEP`.
    pub faults: &'a str,
    /// Arguments for `run`.
    pub arguments: &'a [&'a str],
    /// The folder from which it is run, seen from that of the case.
    pub folder: &'a str,
    /// The folder from which `recover` and `resume` are called, seen from that of the case.
    pub later: &'a str,
    /// Holds once the run has done what `meanwhile` waits for: a condition of a shell.
    pub ready: &'a str,
    /// What another does while the run waits: lines for a shell.
    pub meanwhile: &'a str,
    /// Where the program is killed.
    pub death: Death<'a>,
    /// What another does between the death and what follows it: lines for a shell.
    pub between: &'a str,
    /// What follows a death.
    pub after: After,
    /// The exit code of what came last: of the run, of `recover --yes` or of `resume`.
    pub exit: i32,
    /// What it must say.
    pub says: &'a [&'a str],
    /// What it may not say.
    pub silent: &'a [&'a str],
    /// What may and must be different afterwards: how the lines of the difference begin (`+ file x`, `~ row it.db`).
    pub differs: &'a [&'a str],
    /// What puts right afterwards what stood in the way: lines for a shell.
    pub mend: &'a str,
    /// The commands that it printed are typed, and then this is what is still different.
    pub typed: Option<&'a [&'a str]>,
    /// At the end there is nothing to recover.
    pub over: bool,
}

/// Where a row happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this machine, in a folder of its own.
    Here,
    /// On the edge box of a lab of its own.
    Lab,
}

/// What is started for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// Nothing.
    None,
    /// A PostgreSQL server.
    Postgres,
    /// A Redis server.
    Redis,
}

/// Where the program is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death<'a> {
    /// Nowhere.
    None,
    /// At one point, as in `SHAKEDOWN_FAULTS`: `after:STEP`, `before-undo:STEP`, `7`.
    At(&'a str),
    /// At each point that it has, one after the other. The world must be the same after each.
    Everywhere,
    /// The run at one point, and then the recovery at each point that it has.
    Twice(&'a str),
}

/// What follows a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// `recover --yes`
    Recover,
    /// `resume`
    Resume,
}

impl Row<'_> {
    /// Nothing happens on this machine, and nothing is left.
    pub const HERE: Self = Self {
        place: Place::Here,
        server: Server::None,
        setup: "",
        playbook: "",
        faults: "",
        arguments: &[],
        folder: ".",
        later: ".",
        ready: "",
        meanwhile: "",
        death: Death::None,
        between: "",
        after: After::Recover,
        exit: 0,
        says: &[],
        silent: &[],
        differs: &[],
        mend: "",
        typed: None,
        over: true,
    };
    /// The same in the lab.
    pub const LAB: Self = Self { place: Place::Lab, ..Self::HERE };

    /// Makes it happen and judges it.
    ///
    /// # Panics
    /// It is not as the row says.
    #[track_caller]
    pub fn check(&self) {
        if let Err(problem) = self.judge() {
            panic!("{problem}");
        }
    }

    /// Makes it happen and judges it.
    ///
    /// # Errors
    /// What is not as the row says.
    ///
    /// # Panics
    /// It cannot be made to happen.
    pub fn judge(&self) -> Result<(), String> {
        let Some(judge) = Judge::new(self) else { return Ok(()) };
        match self.death {
            Death::None | Death::At(_) => judge.once(),
            Death::Everywhere => judge.everywhere(),
            Death::Twice(died) => judge.twice(died),
        }
    }
}

/// Of how many points of a row one is taken: `SHAKEDOWN_STRIDE`, or each.
#[must_use]
pub fn stride() -> usize {
    let given = std::env::var("SHAKEDOWN_STRIDE").ok().and_then(|text| text.parse().ok());
    given.unwrap_or(1).max(1)
}

/// A row and the world in which it happens.
struct Judge<'a> {
    row: &'a Row<'a>,
    world: World,
    /// It looks again and again, and so not at all of the system.
    often: bool,
}

impl<'a> Judge<'a> {
    /// A world in which the row can happen; none where there is no lab.
    fn new(row: &'a Row<'a>) -> Option<Self> {
        let world = World::new(row.place, row.server)?;
        world.sh_ok(row.setup);
        world.write(row.playbook, !row.meanwhile.is_empty());
        let often = matches!(row.death, Death::Everywhere | Death::Twice(_));
        Some(Self { row, world, often })
    }

    fn argv(&self) -> Vec<String> {
        let head = ["run".to_owned(), self.world.filled("@DIR@/it.yaml")];
        head.into_iter().chain(self.row.arguments.iter().map(|word| self.world.filled(word))).collect()
    }

    fn look(&self) -> crate::lab::Manifest {
        self.world.look(self.often)
    }

    fn run(&self, faults: &str) -> Said {
        self.world.start(self.row.folder, faults, &self.argv()).wait()
    }

    fn later(&self, faults: &str, argv: &[&str]) -> Said {
        self.begin_later(faults, argv).wait()
    }

    fn begin_later(&self, faults: &str, argv: &[&str]) -> Started {
        let argv: Vec<_> = argv.iter().map(ToString::to_string).collect();
        self.world.start(self.row.later, faults, &argv)
    }

    fn once(&self) -> Result<(), String> {
        let (row, world) = (self.row, &self.world);
        let before = self.look();
        let faults = match row.death {
            Death::At(point) => format!("{},kill:{point}", row.faults),
            _ => row.faults.to_owned(),
        };
        let mut said = if row.meanwhile.is_empty() {
            self.run(&faults)
        } else {
            let running = world.start(row.folder, &faults, &self.argv());
            until(&format!("`{}` holds", row.ready), || world.sh(row.ready).code == Some(0));
            world.sh_ok(row.meanwhile);
            world.sh_ok("touch go");
            let said = running.wait();
            world.sh_ok("rm go");
            said
        };
        if row.death != Death::None {
            if !said.killed {
                return Err(format!("{:?}: it was not killed\n{said}", row.death));
            }
            world.sh_ok(row.between);
            said = self.after(self.row.after);
        }
        self.said(&said)?;
        self.differs(&before, row.differs, &said)?;
        world.sh_ok(row.mend);
        if let Some(still) = row.typed {
            self.type_in(&said)?;
            self.differs(&before, still, &said)?;
            // A run with leftovers may stay open until somebody looks again.
            let _lists = self.later("", &["recover", "--yes"]);
        }
        if row.over { self.over() } else { Ok(()) }
    }

    /// Kills the run at each point, and recovers or resumes it.
    fn everywhere(&self) -> Result<(), String> {
        let before = self.look();
        let mut points = 0;
        loop {
            let at = points * stride() + 1;
            let faults = format!("{},kill:{at}", self.row.faults);
            let said = self.run(&faults);
            let context = |problem: String| format!("point {at}: {problem}");
            if !said.killed {
                self.said(&said).map_err(context)?;
                break;
            }
            points += 1;
            // The last points are after the end of the run was written down: there is nothing to resume.
            let over = self.row.after == After::Resume && self.world.dead_run().is_none();
            let said = if over { said } else { self.after(self.row.after) };
            if !over {
                self.said(&said).map_err(context)?;
            }
            self.differs(&before, self.row.differs, &said).map_err(context)?;
            self.over().map_err(context)?;
        }
        self.told(points)
    }

    /// Kills the run at one point and its recovery at each.
    fn twice(&self, died: &str) -> Result<(), String> {
        let before = self.look();
        let mut points = 0;
        loop {
            let at = points * stride() + 1;
            let said = self.run(&format!("{},kill:{died}", self.row.faults));
            if !said.killed {
                return Err(format!("{died}: it was not killed\n{said}"));
            }
            let killed = self.later(&format!("kill:{at}"), &["recover", "--yes"]);
            let said = if killed.killed { self.after(self.row.after) } else { killed.clone() };
            let context = |problem: String| format!("{died}, then point {at}: {problem}");
            self.said(&said).map_err(context)?;
            self.differs(&before, self.row.differs, &said).map_err(context)?;
            self.over().map_err(context)?;
            if !killed.killed {
                break;
            }
            points += 1;
        }
        self.told(points)
    }

    fn told(&self, points: usize) -> Result<(), String> {
        if points * stride() < 5 {
            return Err(format!("only {points} points"));
        }
        crate::tell(&format!("{points} points, each as it must be"));
        Ok(())
    }

    fn after(&self, after: After) -> Said {
        match after {
            After::Recover => self.later("", &["recover", "--yes"]),
            After::Resume => {
                let run = self.world.dead_run().expect("a run that died");
                self.later("", &["resume", &run])
            }
        }
    }

    fn said(&self, said: &Said) -> Result<(), String> {
        let row = self.row;
        // Nobody can tell what a command did that died under way: it is not run again, and the resumed run says so.
        let doubt = said.text.contains("(the run died while it ran)") && said.text.contains("ERRORED");
        let exit = if doubt { 5 } else { row.exit };
        if said.code != Some(exit) {
            return Err(format!("expected exit code {exit}: {said}"));
        }
        for text in row.says {
            if !said.text.contains(&self.world.filled(text)) {
                return Err(format!("it does not say `{text}`: {said}"));
            }
        }
        match row.silent.iter().find(|text| said.text.contains(&self.world.filled(text))) {
            Some(text) => Err(format!("it says `{text}`: {said}")),
            None => Ok(()),
        }
    }

    /// The difference is the one that there must be; in the lab what is about to end has a moment for it.
    fn differs(&self, before: &crate::lab::Manifest, wanted: &[&str], said: &Said) -> Result<(), String> {
        let wanted: Vec<String> = wanted.iter().map(|line| self.world.filled(line)).collect();
        let begun = std::time::Instant::now();
        loop {
            let difference = before.diff(&self.look());
            let extra: Vec<_> =
                difference.iter().filter(|line| !wanted.iter().any(|it| line.starts_with(it))).collect();
            let missing: Vec<_> =
                wanted.iter().filter(|it| !difference.iter().any(|line| line.starts_with(*it))).collect();
            if extra.is_empty() && missing.is_empty() {
                return Ok(());
            }
            if begun.elapsed() >= self.world.patience() {
                return Err(format!("not wanted: {extra:#?}\nmissing: {missing:#?}\nafter {said}"));
            }
        }
    }

    /// Types the commands that it printed.
    fn type_in(&self, said: &Said) -> Result<(), String> {
        let lines: Vec<_> = said
            .text
            .lines()
            .filter_map(|line| HINTS.iter().find_map(|hint| line.split_once(hint)))
            .collect();
        if lines.is_empty() {
            return Err(format!("there is no command: {said}"));
        }
        for (_, line) in lines {
            let typed = self.world.type_in(line);
            if typed.code != Some(0) || typed.text.contains("ERR") {
                return Err(format!("`{line}`: {typed}"));
            }
        }
        Ok(())
    }

    fn over(&self) -> Result<(), String> {
        let again = self.later("", &["recover", "--yes"]);
        if again.code == Some(0) && again.text.contains("nothing to recover") {
            return Ok(());
        }
        Err(format!("recovered once more it says more: {again}"))
    }
}

/// Makes a test of each row.
#[macro_export]
macro_rules! rows {
    ($($(#[doc = $doc:literal])* $name:ident: $row:expr;)+) => {
        $($(#[doc = $doc])* #[test] fn $name() { $crate::truth::Row::check(&$row); })+
    };
}
pub use crate::rows;

//! Kills at random times.

use super::{Judge, Row};
use crate::lab::lasts;
use std::{
    fmt,
    time::{Duration, Instant},
};

/// What came of kills at random times.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many runs were begun.
    pub trials: u32,
    /// How many of them were killed before their end.
    pub killed: u32,
    /// How many recoveries were killed before their end.
    pub twice: u32,
    /// What was not as it must be, with the trial.
    pub failures: Vec<String>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trials, killed, twice, failures } = self;
        write!(
            f,
            "{trials} runs, {killed} of them and {twice} recoveries killed, {} failures",
            failures.len()
        )?;
        failures.iter().try_for_each(|failure| write!(f, "\n\n{failure}"))
    }
}

/// Numbers that look random and come again with the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}

impl Row<'_> {
    /// Runs it, kills it at a random time, and calls `recover` at once: the dead program may not yet be reaped. Of three
    /// recoveries one is killed, too. After a failure it goes on in a new world. None where there is no lab.
    ///
    /// # Panics
    /// It cannot be made to happen.
    #[must_use]
    pub fn at_random(&self, seed: u64, goes_on: impl Fn(&Tally) -> bool) -> Option<Tally> {
        let mut random = Random(seed.max(1));
        let mut tally = Tally::default();
        'worlds: loop {
            let judge = Judge::new(self)?;
            // How long a run takes here, for a kill at a random moment of it.
            let length = (0..3).map(|_| judge.length()).min().unwrap_or_default();
            let before = judge.look();
            while goes_on(&tally) {
                tally.trials += 1;
                let moments = [random.below(length), random.below(length / 2)];
                let again = random.below(3) == 0;
                let trial = format!("seed {seed}, trial {}, {moments:?} µs, again: {again}", tally.trials);
                if let Err(problem) = judge.trial(&before, moments, again, &mut tally) {
                    tally.failures.push(format!("{trial}: {problem}"));
                    continue 'worlds;
                }
                if tally.trials % 50 == 0 {
                    crate::tell(&format!("{tally}"));
                }
            }
            return Some(tally);
        }
    }
}

impl Judge<'_> {
    fn length(&self) -> u64 {
        let begun = Instant::now();
        let said = self.run("");
        assert_eq!(said.code, Some(0), "{said}");
        u64::try_from(begun.elapsed().as_micros()).expect("short")
    }

    fn trial(
        &self,
        before: &crate::lab::Manifest,
        moments: [u64; 2],
        again: bool,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let mut run = self.world.start(self.row.folder, "", &self.argv());
        // The moment is what is random; nothing is expected to have happened by then.
        lasts(Duration::from_micros(moments[0]));
        run.kill();
        // Nobody has waited for its end yet.
        if again {
            let mut recovery = self.begin_later("", &["recover", "--yes"]);
            lasts(Duration::from_micros(moments[1]));
            recovery.kill();
            let said = self.later("", &["recover", "--yes"]);
            tally.twice += u32::from(recovery.wait().killed);
            tally.killed += u32::from(run.wait().killed);
            self.said(&said)?;
            self.differs(before, &[], &said)?;
        } else {
            let said = self.later("", &["recover", "--yes"]);
            tally.killed += u32::from(run.wait().killed);
            self.said(&said)?;
            self.differs(before, &[], &said)?;
        }
        self.over()
    }
}

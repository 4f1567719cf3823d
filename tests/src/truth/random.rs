//! Kills at random times.

use super::{After, Judge, Row};
use crate::lab::{Manifest, lasts};
use std::{
    env, fmt,
    time::{Duration, Instant},
};

/// How long kills at random times go on, and which they are. `SHAKEDOWN_SOAK_KILLS` is the number of runs that are killed,
/// `SHAKEDOWN_SOAK_MINUTES` ends it after so long, and the same `SHAKEDOWN_SOAK_SEED` gives the same times.
#[derive(Debug)]
pub struct Soak {
    /// Numbers of the same seed are the same.
    pub seed: u64,
    kills: u64,
    end: Option<Instant>,
}

impl Soak {
    /// As the environment says; without it so many kills.
    #[must_use]
    pub fn of(kills: u64) -> Self {
        let number = |name: &str| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
        let minutes = number("SHAKEDOWN_SOAK_MINUTES");
        Self {
            seed: number("SHAKEDOWN_SOAK_SEED").unwrap_or(0x5EED),
            kills: number("SHAKEDOWN_SOAK_KILLS").unwrap_or(if minutes.is_some() { u64::MAX } else { kills }),
            end: minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes)),
        }
    }

    /// Whether there are more to come.
    #[must_use]
    pub fn goes_on(&self, tally: &Tally) -> bool {
        tally.killed < self.kills && self.end.is_none_or(|end| Instant::now() < end)
    }
}

/// What came of kills at random times.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many runs were begun.
    pub trials: u64,
    /// How many of them were killed before their end.
    pub killed: u64,
    /// How many recoveries were killed before their end.
    pub twice: u64,
    /// How many runs were resumed and not recovered.
    pub resumed: u64,
    /// What was not as it must be, with the trial.
    pub failures: Vec<String>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trials, killed, twice, resumed, failures } = self;
        write!(
            f,
            "{trials} runs, {killed} of them and {twice} recoveries killed, {resumed} resumed, {} failures",
            failures.len()
        )?;
        failures.iter().try_for_each(|failure| write!(f, "\n\n{failure}"))
    }
}

/// Numbers that look random and come again with the same seed.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // All zeros would stay so.
        Self(seed.max(1))
    }

    /// The next one, below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}

/// What follows the death of a run at a random time.
#[derive(Clone, Copy, Debug)]
enum Then {
    Recover,
    /// The recovery is killed, too, after so many microseconds.
    Kill(u64),
    Resume,
}

impl Row<'_> {
    /// Runs it, kills it at a random time, and calls `recover` at once: the dead program may not yet be reaped. Some recoveries
    /// are killed, too, and some runs resumed. After a failure it goes on in a new world.
    ///
    /// # Panics
    /// It cannot be made to happen, or something was not as it must be.
    pub fn soak(&self, soak: &Soak) {
        let Some(tally) = self.at_random(soak) else { return };
        crate::tell(&format!("{tally}, seed {}", soak.seed));
        assert!(tally.failures.is_empty(), "{tally}");
    }

    /// None where there is no lab.
    fn at_random(&self, soak: &Soak) -> Option<Tally> {
        let mut random = Random::new(soak.seed);
        let mut tally = Tally::default();
        'worlds: loop {
            let judge = Judge { often: true, ..Judge::new(self)? };
            // How long a run takes here, for a kill at a random moment of it.
            let mut length = (0..3).map(|_| judge.length()).min().unwrap_or_default();
            let before = judge.look();
            while soak.goes_on(&tally) {
                tally.trials += 1;
                let killed = tally.killed;
                let moment = random.below(length);
                let then = match random.below(6) {
                    0 => Then::Resume,
                    1 | 2 => Then::Kill(random.below(length / 2)),
                    _ => Then::Recover,
                };
                let trial = format!("seed {}, trial {}, {moment} µs, {then:?}", soak.seed, tally.trials);
                if let Err(problem) = judge.trial(&before, moment, then, &mut tally) {
                    tally.failures.push(format!("{trial}: {problem}"));
                    // Each has a cause, and a hundred of the same one tell no more.
                    if tally.failures.len() == 5 {
                        return Some(tally);
                    }
                    continue 'worlds;
                }
                // The machine may be busier or less busy by now.
                length = match tally.killed > killed {
                    true => length + length / 64,
                    false => length - length / 8,
                };
                if tally.trials.is_multiple_of(50) {
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

    fn trial(&self, before: &Manifest, moment: u64, then: Then, tally: &mut Tally) -> Result<(), String> {
        let mut run = self.world.start(self.row.folder, "", &self.argv());
        // The moment is what is random; nothing is expected to have happened by then.
        lasts(Duration::from_micros(moment));
        run.kill();
        // Nobody has waited for its end yet.
        let mut said = None;
        match then {
            Then::Recover => {}
            Then::Kill(moment) => {
                let mut recovery = self.begin_later("", &["recover", "--yes"]);
                lasts(Duration::from_micros(moment));
                recovery.kill();
                said = Some(self.after(After::Recover));
                tally.twice += u64::from(recovery.wait().killed);
            }
            Then::Resume => {
                if self.world.dead_run().is_some() {
                    said = Some(self.after(After::Resume));
                    tally.resumed += 1;
                }
            }
        }
        let said = said.unwrap_or_else(|| self.after(After::Recover));
        tally.killed += u64::from(run.wait().killed);
        self.said(&said)?;
        self.differs(before, &[], &said)?;
        self.over()
    }
}

//! What goes before the first command of a connection: to learn where it leads, and to end there what is left of earlier ones.

use super::{
    Failure, SshHost,
    greeting::{Groups, Machine, greeting},
    guard::Mark,
    line::sweep,
};
use engine::{ErrorClass, StepError, host::Cancel};
use openssh::Session;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::{Mutex, OnceCell};

/// Where the commands of a dead run have been ended: once for each machine and user, whatever names lead there.
#[derive(Debug, Default)]
pub(super) struct Swept(Mutex<BTreeMap<String, Arc<OnceCell<()>>>>);

impl SshHost {
    /// Finds out where the connection leads, and ends there what an earlier command left whose end nobody saw, such as one
    /// whose connection broke: before anything else runs, so that no undo works beside what it is to take back.
    pub(super) async fn settle(&self, session: &Arc<Session>, cancel: &Cancel) -> Result<Machine, Failure> {
        let machine = self.meet(session, cancel).await?;
        if let (Some(swept), Some(run)) = (&self.swept, &self.mark.run) {
            let once = swept.0.lock().await.entry(machine.view.clone()).or_default().clone();
            let (own, run) = (&self.mark.owner, std::slice::from_ref(run));
            once.get_or_try_init(|| self.sweep(session, &machine, own, run, cancel)).await?;
        }
        let mut doubts = self.line.doubts().await;
        if !doubts.markers().is_empty() {
            self.sweep(session, &machine, "", doubts.markers(), cancel).await?;
            doubts.settled();
        }
        Ok(machine)
    }

    /// Asks which machine this is, once for each connection.
    async fn meet(&self, session: &Arc<Session>, cancel: &Cancel) -> Result<Machine, Failure> {
        let mut known = self.line.known().await;
        if let Some(machine) = known.of(session) {
            return Ok(machine.clone());
        }
        let told =
            self.attempt(session, &greeting(self.groups), &Mark::default(), &Groups::None, cancel).await?;
        let machine = Machine::read(&told, self.groups);
        known.learn(session, machine.clone()).map_err(|before| {
            let now = machine.identity.as_deref().unwrap_or("one without an identity");
            let message = format!(
                "host `{}` leads to another machine now, `{now}`, where nothing was done; it was `{before}`",
                self.spec().name
            );
            StepError::new(ErrorClass::Denied, message)
                .hint(self.spec().typed("uname -n; cat /etc/machine-id"))
        })?;
        Ok(machine)
    }

    async fn sweep(
        &self,
        session: &Arc<Session>,
        machine: &Machine,
        owner: &str,
        markers: &[String],
        cancel: &Cancel,
    ) -> Result<(), Failure> {
        // Without the run's word, or it would find itself.
        let ended =
            self.attempt(session, &sweep(owner, markers), &Mark::default(), &machine.groups, cancel).await?;
        if ended.success() {
            return Ok(());
        }
        let message =
            format!("earlier commands of this run still work on `{}` and do not end", self.spec().name);
        Err(StepError::new(ErrorClass::Busy, message).hint(self.spec().typed("ps -ef")).into())
    }
}

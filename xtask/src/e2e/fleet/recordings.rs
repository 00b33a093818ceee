//! Recordings of real programs on this kernel: one for each thing that may be wrong on a host.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Result, ensure};

use crate::e2e::{
    shop::{Habit, Shop},
    stage::{self, Stage},
};

const NETNS: &str = "tt-e2e-fleet";
const ORDERS: u16 = 8080;
const BILLING: u16 = 8081;
/// So long, in ten rounds a second.
const SECONDS: u32 = 10;

/// A recording of each kind of host.
#[derive(Debug)]
pub(super) struct Recordings {
    healthy: PathBuf,
    orders: PathBuf,
    billing: PathBuf,
}

impl Recordings {
    /// Of a host where this service leaks.
    pub(super) fn of(&self, leaks: Option<&str>) -> &Path {
        match leaks {
            Some("orders-api") => &self.orders,
            Some(_) => &self.billing,
            None => &self.healthy,
        }
    }
}

pub(super) fn make(stage: &Stage) -> Result<Recordings> {
    Ok(Recordings {
        healthy: record(stage, "healthy", None)?,
        orders: record(stage, "orders", Some("orders-api"))?,
        billing: record(stage, "billing", Some("billing"))?,
    })
}

/// Two services and who calls both, in containers, as the program under test sees them.
fn record(stage: &Stage, name: &str, leaks: Option<&str>) -> Result<PathBuf> {
    let habit = |service| if leaks == Some(service) { Habit::Leak } else { Habit::Close };
    let mut shop = Shop::new(NETNS)?;
    let services = [
        shop.serve(stage, "orders-api", ORDERS, habit("orders-api"))?,
        shop.serve(stage, "billing", BILLING, habit("billing"))?,
    ];
    let file = stage.folder.join(format!("{name}.tctrace"));
    let mut record = Command::new(&stage.program);
    record.args(["record", "--netns", NETNS, "--duration"]).arg(format!("{SECONDS}s")).arg(&file);
    let log = format!("record-{name}");
    let mut recorder = stage.start(&log, &mut record)?;
    stage::until(Duration::from_secs(60), || {
        let told = stage.read(&format!("{log}.err"))?;
        ensure!(told.contains("tracing by"), "the recorder has not begun: {told}");
        Ok(())
    })?;
    let caller = shop.call(stage, "checkout", SECONDS * 10, &[ORDERS, BILLING])?;
    let status = recorder.wait(Duration::from_secs(60))?;
    ensure!(status.success(), "the recorder ended with {status}: {}", recorder.last_words());
    drop((caller, services));
    Ok(file)
}

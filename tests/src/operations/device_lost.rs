//! The device that has the holders' keys is switched off and on again: a Luna partition, imitated over SoftHSM.

use std::time::Instant;

use dalp_devstack::stack::Options;
use dalp_quorum_module::device::Device;

use super::{Measures, Outcome, Run, Site};
use crate::luna::put_behind_luna;

/// How long a request would wait for people; the device here wants none.
const WINDOW_S: u32 = 3_600;

pub(super) async fn drill(measures: &Measures) -> anyhow::Result<Outcome> {
    let mut site = Site::open(&Options::default(), "pkcs11").await?;
    let folder = site.stack.folder().join("device");
    let device = Device::open(&folder)?;
    put_behind_luna(&mut site.stack, &folder, WINDOW_S).await?;
    let mut run = Run::begin(&site, "device_lost", measures).await?;
    let from = Instant::now();
    device.lose()?;
    tokio::time::sleep(measures.away).await;
    device.bring_back()?;
    run.over("device switched off", from, Instant::now()).await?;
    let signatures = device.read()?.signatures;
    run.remark(format!("{signatures} signatures by the device"));
    run.finish(&site).await
}

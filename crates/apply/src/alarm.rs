use std::collections::BTreeSet;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};

use api::etcdserverpb::{AlarmMember, AlarmType};
use backend::Bucket;
use bytes::Bytes;
use prost::Message;

/// The alarms of all members: who raised what. Owned by the state machine.
#[derive(Debug, Default)]
pub struct Alarms {
    raised: BTreeSet<(i32, u64)>,
}

impl Alarms {
    /// Reads the alarms the database holds. A record that does not parse is left out with a warning,
    /// as it can block nothing.
    pub fn load(backend: &backend::Backend) -> Result<Self, backend::Error> {
        let mut alarms = Self::default();
        backend.for_each(Bucket::Alarm, b"", None, &mut |key, _| {
            match AlarmMember::decode(key) {
                Ok(alarm) => {
                    alarms.raised.insert((alarm.alarm, alarm.member_id));
                }
                Err(error) => tracing::warn!(%error, "found an alarm record that does not parse"),
            }
            std::ops::ControlFlow::Continue(())
        })?;
        Ok(alarms)
    }

    /// Raises an alarm; whether it is a new one.
    pub(crate) fn raise(&mut self, db: &mut backend::Writer, alarm: &AlarmMember) -> bool {
        let new = self.raised.insert((alarm.alarm, alarm.member_id));
        if new {
            db.put(Bucket::Alarm, alarm.encode_to_vec(), Bytes::new());
        }
        new
    }

    /// Disarms an alarm; whether it was there.
    pub(crate) fn disarm(&mut self, db: &mut backend::Writer, alarm: &AlarmMember) -> bool {
        let known = self.raised.remove(&(alarm.alarm, alarm.member_id));
        if known {
            db.delete(Bucket::Alarm, alarm.encode_to_vec());
        }
        known
    }

    /// The alarms of one kind, or all for [`AlarmType::None`].
    pub fn get(&self, kind: i32) -> Vec<AlarmMember> {
        self.raised
            .iter()
            .filter(|(alarm, _)| kind == AlarmType::None as i32 || *alarm == kind)
            .map(|&(alarm, member_id)| AlarmMember { member_id, alarm })
            .collect()
    }

    /// Whether any member raised this kind.
    pub fn any(&self, kind: AlarmType) -> bool {
        self.raised.iter().any(|(alarm, _)| *alarm == kind as i32)
    }
}

/// What others may see of the alarms at any time.
#[derive(Debug, Default)]
pub struct AlarmView {
    list: RwLock<Vec<AlarmMember>>,
    no_space: AtomicBool,
}

impl AlarmView {
    /// All raised alarms.
    pub fn list(&self) -> Vec<AlarmMember> {
        self.list
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Whether any member is out of space.
    pub fn no_space(&self) -> bool {
        self.no_space.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, alarms: &Alarms) {
        let list = alarms.get(AlarmType::None as i32);
        self.no_space
            .store(alarms.any(AlarmType::Nospace), Ordering::Release);
        *self
            .list
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = list;
    }
}

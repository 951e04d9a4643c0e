//! Counts of calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus::IntCounter;
use tonic::Code;

use super::maker::Maker;
use crate::grpc::method::{Info, Kind, Method};

/// Values of the label `grpc_code`, in the order of the codes' numbers.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Methods that belong to the API but are not served yet: present with zero, as dashboards expect.
const UNSERVED: &[(&str, &[&str])] = &[
    (
        "etcdserverpb.Auth",
        &[
            "AuthEnable",
            "AuthDisable",
            "AuthStatus",
            "Authenticate",
            "UserAdd",
            "UserGet",
            "UserList",
            "UserDelete",
            "UserChangePassword",
            "UserGrantRole",
            "UserRevokeRole",
            "RoleAdd",
            "RoleGet",
            "RoleList",
            "RoleDelete",
            "RoleGrantPermission",
            "RoleRevokePermission",
        ],
    ),
    (
        "etcdserverpb.Cluster",
        &["MemberAdd", "MemberRemove", "MemberUpdate", "MemberPromote"],
    ),
    ("etcdserverpb.Maintenance", &["Downgrade"]),
];

/// Counters of all methods, by their number.
#[derive(Debug)]
pub struct GrpcMetrics {
    methods: Vec<MethodMetrics>,
    received_bytes: IntCounter,
    sent_bytes: IntCounter,
}

#[derive(Debug)]
struct MethodMetrics {
    started: IntCounter,
    received: IntCounter,
    sent: IntCounter,
    handled: Vec<IntCounter>,
}

impl GrpcMetrics {
    pub(super) fn new(maker: &Maker<'_>) -> Self {
        let labels = ["grpc_type", "grpc_service", "grpc_method"];
        let with_code = ["grpc_type", "grpc_service", "grpc_method", "grpc_code"];
        let vec = |name: &str, help, labels: &[&str]| {
            maker.counter_vec(&format!("grpc_server_{name}_total"), help, labels)
        };
        let started = vec("started", "Calls started.", &labels);
        let received = vec("msg_received", "Messages received from clients.", &labels);
        let sent = vec("msg_sent", "Messages sent to clients.", &labels);
        let handled = vec(
            "handled",
            "Calls completed, whatever the result.",
            &with_code,
        );
        let resolve = |info: Info| {
            let labels = [info.kind.label(), info.service, info.name];
            let code = |code: &&str| {
                handled.with_label_values(&[info.kind.label(), info.service, info.name, *code])
            };
            MethodMetrics {
                started: started.with_label_values(&labels),
                received: received.with_label_values(&labels),
                sent: sent.with_label_values(&labels),
                handled: CODES.iter().map(code).collect(),
            }
        };
        for (service, names) in UNSERVED {
            for name in *names {
                resolve(Info {
                    service,
                    name,
                    kind: Kind::Unary,
                });
            }
        }
        let bytes = |direction, help| {
            maker.counter(
                &format!("etcd_network_client_grpc_{direction}_bytes_total"),
                help,
            )
        };
        Self {
            methods: Method::ALL
                .iter()
                .map(|method| resolve(method.info()))
                .collect(),
            received_bytes: bytes("received", "Bytes of messages received from clients."),
            sent_bytes: bytes("sent", "Bytes of messages sent to clients."),
        }
    }
}

/// The counters of one call from its start to its end. A call that nobody ends was given up by its client.
#[derive(Debug)]
pub struct Tally {
    metrics: Arc<super::Metrics>,
    method: Method,
    ended: AtomicBool,
}

impl Tally {
    /// Counts a call as started.
    pub fn start(metrics: Arc<super::Metrics>, method: Method) -> Self {
        let tally = Self {
            metrics,
            method,
            ended: AtomicBool::new(false),
        };
        tally.counters().started.inc();
        tally
    }

    /// Counts a message of `bytes` from the client.
    pub fn received(&self, bytes: usize) {
        self.counters().received.inc();
        self.metrics.grpc.received_bytes.inc_by(bytes as u64);
    }

    /// Counts a message of `bytes` to the client.
    pub fn sent(&self, bytes: usize) {
        self.counters().sent.inc();
        self.metrics.grpc.sent_bytes.inc_by(bytes as u64);
    }

    /// Counts the call's result.
    pub fn end(&self, code: Code) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(counter) = self.counters().handled.get(code as usize) {
            counter.inc();
        }
    }

    fn counters(&self) -> &MethodMetrics {
        &self.metrics.grpc.methods[self.method as usize]
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if !*self.ended.get_mut() {
            self.end(Code::Cancelled);
        }
    }
}

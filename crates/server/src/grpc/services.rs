//! From a request to the method it names, and what all methods have in common.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::Error;
use http::{HeaderValue, Method as HttpMethod, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use prometheus::Histogram;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::body::{Outlet, ResponseBody};
use super::call::Call;
use super::frame;
use super::method::{self, Method};
use super::pieces::Budget;
use super::{status, stream};
use crate::frontend::Frontend;
use crate::metrics::{Metrics, Tally};

/// What the services need to know beside the member.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--max-request-bytes`.
    pub max_request_bytes: usize,
    /// `--max-txn-ops`.
    pub max_txn_ops: usize,
    /// Election timeout: how often streams that need a leader look for one.
    pub election_timeout: Duration,
    /// `--watch-progress-notify-interval`.
    pub watch_progress_interval: Duration,
}

impl Settings {
    /// Longest message that is received: room for what goes around the largest proposal.
    pub const fn max_receive_bytes(&self) -> usize {
        self.max_request_bytes + 512 * 1024
    }
}

/// All services of a member.
#[derive(Debug)]
pub struct Services<F> {
    pub(super) member: Arc<F>,
    pub(super) settings: Settings,
    pub(super) metrics: Arc<Metrics>,
    /// Set when the member stops; streams end then.
    pub(super) stop: CancellationToken,
    durations: Durations,
    pub(super) lists: Budget,
}

impl<F: Frontend> Services<F> {
    /// Services for `member`. Streams end when `stop` is cancelled.
    pub fn new(
        member: Arc<F>,
        settings: Settings,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let durations = Durations::new(&metrics);
        Arc::new(Self {
            member,
            settings,
            metrics,
            stop,
            durations,
            lists: Budget::default(),
        })
    }

    /// Answers a request.
    pub async fn call(self: Arc<Self>, request: Request<Incoming>) -> Response<ResponseBody> {
        let call = match self.open(request) {
            Ok(call) => call,
            Err(refusal) => return *refusal,
        };
        // The methods that carry the load are part of this future; the others would only make it bigger.
        match call.method {
            Method::Range => self.range(call).await,
            Method::Put => {
                self.unary(call, async |call, tally| self.put(call, tally).await)
                    .await
            }
            Method::Txn => {
                self.unary(call, async |call, tally| self.txn(call, tally).await)
                    .await
            }
            _ => Box::pin(self.rare(call)).await,
        }
    }

    async fn rare(self: Arc<Self>, call: Call) -> Response<ResponseBody> {
        macro_rules! unary {
            ($method:ident) => {
                self.unary(call, async |call, tally| self.$method(call, tally).await)
                    .await
            };
        }
        match call.method {
            Method::Range => self.range(call).await,
            Method::Put => unary!(put),
            Method::Txn => unary!(txn),
            Method::DeleteRange => unary!(delete_range),
            Method::Compact => unary!(compact),
            Method::LeaseGrant => unary!(lease_grant),
            Method::LeaseRevoke => unary!(lease_revoke),
            Method::LeaseTimeToLive => unary!(lease_time_to_live),
            Method::LeaseLeases => unary!(lease_leases),
            Method::MemberAdd => unary!(member_add),
            Method::MemberRemove => unary!(member_remove),
            Method::MemberUpdate => unary!(member_update),
            Method::MemberPromote => unary!(member_promote),
            Method::MemberList => unary!(member_list),
            Method::Alarm => unary!(alarm),
            Method::Status => unary!(status),
            Method::Defragment => unary!(defragment),
            Method::Hash => unary!(hash),
            Method::HashKv => unary!(hash_kv),
            Method::MoveLeader => unary!(move_leader),
            Method::Authenticate => unary!(authenticate),
            Method::AuthEnable => unary!(auth_enable),
            Method::AuthDisable => unary!(auth_disable),
            Method::AuthStatus => unary!(auth_status),
            Method::UserAdd => unary!(user_add),
            Method::UserGet => unary!(user_get),
            Method::UserList => unary!(user_list),
            Method::UserDelete => unary!(user_delete),
            Method::UserChangePassword => unary!(user_change_password),
            Method::UserGrantRole => unary!(user_grant_role),
            Method::UserRevokeRole => unary!(user_revoke_role),
            Method::RoleAdd => unary!(role_add),
            Method::RoleGet => unary!(role_get),
            Method::RoleList => unary!(role_list),
            Method::RoleDelete => unary!(role_delete),
            Method::RoleGrantPermission => unary!(role_grant_permission),
            Method::RoleRevokePermission => unary!(role_revoke_permission),
            Method::Lock => unary!(lock),
            Method::Unlock => unary!(unlock),
            Method::Campaign => unary!(campaign),
            Method::Proclaim => unary!(proclaim),
            Method::Leader => unary!(leader),
            Method::Resign => unary!(resign),
            Method::HealthCheck => unary!(health_check),
            Method::HealthList => unary!(health_list),
            Method::RangeStream => self.streaming(call, Self::range_stream),
            Method::Watch => self.streaming(call, Self::watch),
            Method::LeaseKeepAlive => self.streaming(call, Self::lease_keep_alive),
            Method::Snapshot => self.streaming(call, Self::snapshot),
            Method::Observe => self.streaming(call, Self::observe),
            Method::HealthWatch => self.streaming(call, Self::health_watch),
        }
    }

    /// Reads the head of a request; refuses what is not a call of one of our methods.
    fn open(&self, request: Request<Incoming>) -> Result<Call, Box<Response<ResponseBody>>> {
        let (parts, body) = request.into_parts();
        let content_type = parts
            .headers
            .get(header::CONTENT_TYPE)
            .map_or(&b""[..], HeaderValue::as_bytes);
        if !is_grpc(content_type) {
            let name = gotext::quote(&String::from_utf8_lossy(content_type));
            let status = Status::new(
                Code::InvalidArgument,
                format!("invalid gRPC request content-type {name}"),
            );
            return Err(refuse(&status, StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        if parts.method != HttpMethod::POST {
            let text = format!(
                "Received a HEADERS frame with :method {} which should be POST",
                gotext::quote(parts.method.as_str())
            );
            return Err(refuse(
                &Status::new(Code::Internal, text),
                StatusCode::METHOD_NOT_ALLOWED,
            ));
        }
        let Some(method) = Method::of(parts.uri.path()) else {
            let status = Status::new(Code::Unimplemented, method::unknown(parts.uri.path()));
            return Err(refuse(&status, StatusCode::OK));
        };
        Call::new(method, parts, body, self.settings.max_receive_bytes())
            .map_err(|status| refuse(&status, StatusCode::OK))
    }

    /// Runs a unary method: within the client's time, counted, its answer encoded at once.
    pub(super) async fn unary<M: Message>(
        &self,
        mut call: Call,
        work: impl AsyncFnOnce(&mut Call, &Tally) -> Result<M, Status>,
    ) -> Response<ResponseBody> {
        let tally = Tally::start(Arc::clone(&self.metrics), call.method);
        let started = Instant::now();
        let (timeout, method) = (call.timeout, call.method);
        let result = within(timeout, work(&mut call, &tally)).await;
        self.durations.observe(method, started, result.is_ok());
        let result = result.map(|message| {
            let encoded = frame::encode(&message);
            tally.sent(encoded.len() - frame::HEADER);
            ResponseBody::message(encoded)
        });
        finish(result, &tally)
    }

    /// A Range is unary, but its answer may be big.
    async fn range(&self, mut call: Call) -> Response<ResponseBody> {
        let tally = Tally::start(Arc::clone(&self.metrics), call.method);
        let started = Instant::now();
        let timeout = call.timeout;
        let result = within(timeout, self.range_body(&mut call, &tally)).await;
        self.durations
            .observe(Method::Range, started, result.is_ok());
        finish(result, &tally)
    }

    /// Starts a streaming method; the answer's body does its work.
    fn streaming<W>(
        self: Arc<Self>,
        call: Call,
        work: impl FnOnce(Arc<Self>, Call, Sender) -> W,
    ) -> Response<ResponseBody>
    where
        W: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let tally = Arc::new(Tally::start(Arc::clone(&self.metrics), call.method));
        if let Err(status) = self.admit(&call, self.refused_to_learners(&call), "stream") {
            return finish(Err(status), &tally);
        }
        let leader = call.requires_leader().then(|| Arc::clone(&self));
        let timeout = call.timeout;
        let body = ResponseBody::stream(|outlet| {
            let work = work(
                self,
                call,
                Sender {
                    outlet,
                    tally: Arc::clone(&tally),
                },
            );
            async move {
                let result = within(timeout, stream::while_led(leader, work)).await;
                let code = result.as_ref().err().map_or(Code::Ok, Status::code);
                tally.end(code);
                result
            }
        });
        grpc_response(body)
    }

    /// Whether a learner must not answer this, as far as the method alone tells.
    fn refused_to_learners(&self, call: &Call) -> bool {
        call.method != Method::Snapshot && self.member.is_learner()
    }

    /// The request of a unary call or a stream of answers, after the checks that concern any request.
    pub(super) async fn receive<M: Message + Default>(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<M, Status> {
        self.receive_unless(call, tally, |_| true).await
    }

    /// As [`Self::receive`]; `refused` says whether a learner must not answer this very request.
    pub(super) async fn receive_unless<M: Message + Default>(
        &self,
        call: &mut Call,
        tally: &Tally,
        refused: impl FnOnce(&M) -> bool,
    ) -> Result<M, Status> {
        let request = only_message(call, tally).await?;
        let refused = self.member.is_learner() && refused(&request);
        self.admit(call, refused, "unary")?;
        Ok(request)
    }

    /// Refuses what no method would answer now.
    fn admit(
        &self,
        call: &Call,
        refused_to_learner: bool,
        kind: &'static str,
    ) -> Result<(), Status> {
        if refused_to_learner {
            return Err(Error::NotSupportedForLearner.into());
        }
        self.metrics
            .server
            .count_client(kind, call.client_api_version()?);
        if call.requires_leader() && !self.member.has_leader() {
            return Err(Error::NoLeader.into());
        }
        Ok(())
    }
}

/// Where a streaming method puts its messages.
#[derive(Debug)]
pub(super) struct Sender {
    outlet: Outlet,
    pub(super) tally: Arc<Tally>,
}

impl Sender {
    /// Sends a message; waits while the client cannot take more. Returns its length.
    pub async fn send(&self, message: &impl Message) -> usize {
        let encoded = frame::encode(message);
        let length = encoded.len() - frame::HEADER;
        self.outlet.send(encoded).await;
        self.tally.sent(length);
        length
    }
}

/// The one request of a call that takes one.
pub(super) async fn only_message<M: Message + Default>(
    call: &mut Call,
    tally: &Tally,
) -> Result<M, Status> {
    let Some((request, length)) = call.messages.next().await? else {
        return Err(Status::new(Code::Internal, "unexpected EOF"));
    };
    tally.received(length);
    Ok(request)
}

fn is_grpc(content_type: &[u8]) -> bool {
    match content_type.strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';')),
        None => false,
    }
}

/// Gives up when the client's time is over.
async fn within<T>(
    timeout: Option<Duration>,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    match timeout {
        None => work.await,
        Some(timeout) => tokio::time::timeout(timeout, work)
            .await
            .unwrap_or_else(|_| Err(Error::DeadlineExceeded.into())),
    }
}

fn finish(result: Result<ResponseBody, Status>, tally: &Tally) -> Response<ResponseBody> {
    match result {
        Ok(body) => {
            tally.end(Code::Ok);
            grpc_response(body)
        }
        Err(status) => {
            tally.end(status.code());
            *refuse(&status, StatusCode::OK)
        }
    }
}

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

fn grpc_response(body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
    response
}

/// An answer without messages.
fn refuse(result: &Status, http: StatusCode) -> Box<Response<ResponseBody>> {
    let mut response = grpc_response(ResponseBody::default());
    *response.status_mut() = http;
    status::write(result, response.headers_mut());
    Box::new(response)
}

/// `etcd_server_request_duration_seconds` of the methods that have one, by success.
#[derive(Debug)]
struct Durations(Vec<(Method, [Histogram; 2])>);

impl Durations {
    fn new(metrics: &Metrics) -> Self {
        let types = [
            (Method::Range, "Range"),
            (Method::Put, "Put"),
            (Method::Txn, "Txn"),
            (Method::DeleteRange, "DeleteRange"),
            (Method::Compact, "Compaction"),
            (Method::LeaseGrant, "LeaseGrant"),
            (Method::LeaseRevoke, "LeaseRevoke"),
            (Method::Alarm, "Alarm"),
        ];
        let resolve = |(method, name)| {
            let of = |success| {
                metrics
                    .server
                    .request_duration
                    .with_label_values(&[name, success])
            };
            (method, [of("false"), of("true")])
        };
        Self(types.into_iter().map(resolve).collect())
    }

    fn observe(&self, method: Method, started: Instant, success: bool) {
        if let Some((_, histograms)) = self.0.iter().find(|(known, _)| *known == method) {
            histograms[usize::from(success)].observe(started.elapsed().as_secs_f64());
        }
    }
}

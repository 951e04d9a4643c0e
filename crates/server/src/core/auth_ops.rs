//! Who asks, whether they may, logins, and changes of users and roles.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::Error;
use api::etcdserverpb as pb;
use apply::{Op, Response};
use auth::{AuthInfo, AuthOp, AuthResponse, Credentials, Identity, Login, PasswordCheck};
use tokio::sync::oneshot;

use super::Member;
use super::kv_ops::expect_response;
use crate::frontend::{Caller, Need};

/// How often a request with a token from an entry that is not applied here looks whether it is now.
const TOKEN_POLL: Duration = Duration::from_millis(5);

/// A random value that cannot be foreseen.
fn random(bytes: &mut [u8]) -> Result<(), Error> {
    aws_lc_rs::rand::fill(bytes)
        .map_err(|_| Error::other(api::Code::Internal, "no random numbers".to_owned()))
}

impl auth::Clock for Member {
    fn since_start(&self) -> Duration {
        self.now()
    }

    fn since_1970(&self) -> Duration {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    }
}

impl Member {
    /// Finds out who asks. A token may come from an entry that others have applied already; then this waits.
    pub(crate) async fn identify(&self, caller: &Caller) -> Result<Option<AuthInfo>, Error> {
        match caller {
            Caller::Nobody => Ok(None),
            _ if !self.auth.enabled() => Ok(None),
            Caller::Root => Ok(Some(AuthInfo {
                username: "root".into(),
                revision: self.auth.revision(),
            })),
            Caller::Token(token) => {
                // The wait is rare and would only make all requests bigger.
                Box::pin(self.holder(token)).await
            }
        }
    }

    async fn holder(&self, token: &str) -> Result<Option<AuthInfo>, Error> {
        let deadline = tokio::time::Instant::now() + self.limits.request_timeout();
        loop {
            let credentials = Credentials::Token(token);
            match self.auth.identify(&credentials, self.applied(), self)? {
                Identity::Known(info) => return Ok(info),
                // The index is the client's own claim, so nothing is kept for it.
                Identity::AfterIndex(_) if tokio::time::Instant::now() >= deadline => {
                    return Err(Error::InvalidAuthToken);
                }
                Identity::AfterIndex(_) if self.is_stopping() => return Err(Error::Stopped),
                Identity::AfterIndex(_) => tokio::time::sleep(TOKEN_POLL).await,
            }
        }
    }

    /// Whether somebody may do what needs a user, or root, or who may read a range.
    pub async fn permit(&self, caller: &Caller, need: Need<'_>) -> Result<(), Error> {
        if !self.auth.enabled() {
            return Ok(());
        }
        let info = self.identify(caller).await?;
        let permissions = self.auth.permissions();
        match need {
            Need::User => permissions.is_identified(info.is_some()),
            Need::Root => permissions.is_admin((&info).into()),
            Need::Watch(key, end) => permissions.check_watch((&info).into(), key, end),
        }
    }

    /// Reads or changes users and roles.
    pub async fn auth(&self, caller: &Caller, mut op: AuthOp) -> Result<AuthResponse, Error> {
        if let Some(password) = op.take_password() {
            let hash = self.hash_password(password).await?;
            op.set_hash(&hash);
        }
        Ok(expect_response!(
            self.propose_for(caller, Op::Auth(op)).await?,
            Auth
        ))
    }

    async fn hash_password(&self, password: String) -> Result<String, Error> {
        let mut salt = [0; 16];
        random(&mut salt)?;
        let (done, result) = oneshot::channel();
        // Whoever asked may be gone by then.
        self.passwords.hash(password, salt, move |hash| {
            let _ = done.send(hash);
        })?;
        Ok(result.await.map_err(|_| Error::Stopped)??)
    }

    async fn check_password(&self, check: PasswordCheck, password: &str) -> Result<(), Error> {
        let (done, result) = oneshot::channel();
        self.passwords.check(check, password, move |right| {
            let _ = done.send(right);
        })?;
        if result.await.map_err(|_| Error::Stopped)? {
            Ok(())
        } else {
            Err(Error::AuthFailed)
        }
    }

    /// Trades a password for a token. The password is checked here, and again if users, roles or permissions changed
    /// before the login was applied.
    pub async fn authenticate(&self, request: pb::AuthenticateRequest) -> Result<String, Error> {
        self.linearizable().await?;
        loop {
            let check = self.auth.permissions().login(&request.name)?;
            let revision = check.revision;
            self.check_password(check, &request.password).await?;
            let login = self.propose_login(&request.name).await?;
            if login.revision == revision {
                return self.auth.finish_login(login, self);
            }
            tracing::info!("revision when password checked became stale; retrying");
        }
    }

    async fn propose_login(&self, name: &str) -> Result<Login, Error> {
        let mut failed = Ok(());
        let simple_token = self
            .auth
            .provider()
            .token_prefix(|bytes| failed = random(bytes));
        failed?;
        let op = AuthOp::Authenticate(pb::InternalAuthenticateRequest {
            name: name.to_owned(),
            simple_token,
            ..Default::default()
        });
        match expect_response!(self.propose(Op::Auth(op)).await?, Auth) {
            AuthResponse::Authenticate(login) => Ok(login),
            other => unreachable!("a login was answered by {other:?}"),
        }
    }
}

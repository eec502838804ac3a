//! What the application itself says of its health: checks that it brings, asked once a second.
//!
//! A sick answer takes the node out of the balancer, with the diagnosis on the admin port; a degraded one is only told to
//! operators. Each check runs in a task of its own, so one that hangs, blocks or panics harms nothing but its own result.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{NodeError, Reason};
use crate::service::Health;

/// How long a check may take.
const LIMIT: Duration = Duration::from_secs(1);
/// How much later its answer may be heard.
const HEARD: Duration = Duration::from_millis(100);
/// One late answer means nothing; so many in a row mean that the check is sick.
const LATE: u32 = 2;
/// The longest name of a check, bytes.
const LONGEST_NAME: usize = 64;

/// Something of the application whose health counts.
#[async_trait]
pub trait HealthCheck: Send + Sync + 'static {
    /// Names it in reasons of readiness and in problems: 1 to 64 of `a-z 0-9 _ -`, unlike any other check's.
    fn name(&self) -> &str;

    /// Says how it is right now. Asked once a second, and given up after 1 s; a check that is late twice in a row counts as
    /// failed. [`Health::Failed`] makes the node not ready, at once, until another answer comes.
    async fn check(&self) -> Health;
}

/// A check made of a name and a function.
pub(super) struct Named<F> {
    pub(super) name: String,
    pub(super) check: F,
}

#[async_trait]
impl<F, Fut> HealthCheck for Named<F>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Health> + Send + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    async fn check(&self) -> Health {
        (self.check)().await
    }
}

/// The checks of a node; clones share the results.
#[derive(Clone, Default)]
pub(crate) struct Checks(Vec<Runner>);

#[derive(Clone)]
struct Runner {
    check: Arc<dyn HealthCheck>,
    /// Whether the last one asked is still at it.
    busy: Arc<AtomicBool>,
    result: Arc<ArcSwap<Health>>,
    /// So many answers in a row were late.
    late: u32,
}

impl Checks {
    /// Takes the checks of the application.
    ///
    /// # Errors
    /// A name that is not one, or stands twice.
    pub(super) fn new(checks: Vec<Arc<dyn HealthCheck>>) -> Result<Self, NodeError> {
        for (place, check) in checks.iter().enumerate() {
            let name = check.name();
            if !is_name(name) {
                return Err(NodeError::Failed(format!(
                    "the name of the health check `{}` must be 1 to {LONGEST_NAME} of a-z 0-9 _ -",
                    name.escape_default()
                )));
            }
            if checks[..place].iter().any(|other| other.name() == name) {
                let twice = format!("two health checks are called `{name}`; rename one of them");
                return Err(NodeError::Failed(twice));
            }
        }
        Ok(Self(checks.into_iter().map(Runner::new).collect()))
    }

    /// Asks all of them, at the same time; returns why the node is not ready.
    pub(super) async fn ask(&mut self) -> Vec<Reason> {
        join_all(self.0.iter_mut().map(Runner::ask)).await;
        let sick = self.results().into_iter().filter_map(|(name, health)| match health {
            Health::Failed(why) => Some(Reason::new(name, why)),
            Health::Ready | Health::Degraded(_) => None,
        });
        sick.collect()
    }

    /// Returns the name of each with its last result.
    pub(crate) fn results(&self) -> Vec<(String, Health)> {
        let each = self.0.iter();
        each.map(|it| (it.check.name().to_owned(), Health::clone(&it.result.load()))).collect()
    }
}

impl Runner {
    fn new(check: Arc<dyn HealthCheck>) -> Self {
        let result = Arc::new(ArcSwap::from_pointee(Health::Ready));
        Self { check, busy: Arc::default(), result, late: 0 }
    }

    async fn ask(&mut self) {
        let health = match self.answer().await {
            Some(health) => {
                self.late = 0;
                health
            }
            None => {
                self.late = self.late.saturating_add(1);
                if self.late < LATE {
                    return;
                }
                Health::Failed(format!("no answer within {} ms", LIMIT.as_millis()))
            }
        };
        self.result.store(Arc::new(health));
    }

    /// Gives nothing when it is late. A check that still runs is not begun a second time: one that blocks its thread must
    /// not take one thread after the other.
    async fn answer(&self) -> Option<Health> {
        if self.busy.swap(true, Ordering::AcqRel) {
            return None;
        }
        let (tell, heard) = oneshot::channel();
        let (check, idle) = (Arc::clone(&self.check), Idle(Arc::clone(&self.busy)));
        tokio::spawn(async move {
            let _idle = idle;
            let health = timeout(LIMIT, check.check()).await;
            // Whoever asked may have given up.
            tell.send(health.ok()).ok();
        });
        match timeout(LIMIT + HEARD, heard).await {
            Ok(Ok(health)) => health,
            Ok(Err(_gone)) => {
                Some(Health::Failed("the check panicked; the log says where".to_owned()))
            }
            Err(_elapsed) => None,
        }
    }
}

/// Says that the check may be asked again, however it ends.
struct Idle(Arc<AtomicBool>);

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

fn is_name(name: &str) -> bool {
    let good = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(good)
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|runner| runner.check.name())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named<F, Fut>(name: &str, check: F) -> Arc<dyn HealthCheck>
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Health> + Send + 'static,
    {
        Arc::new(Named { name: name.to_owned(), check })
    }

    fn failed(why: &str) -> Health {
        Health::Failed(why.to_owned())
    }

    #[tokio::test]
    async fn h2_sick_is_not_ready_and_degraded_is_only_told() {
        let mut checks = Checks::new(vec![
            named("well", || async { Health::Ready }),
            named("slow-disk", || async { Health::Degraded("90 % full".to_owned()) }),
            named("payments", || async { failed("the gateway refuses") }),
            named("broken", || async { panic!("as a test asked for") }),
        ])
        .unwrap();
        let reasons = checks.ask().await;
        let told: Vec<_> =
            reasons.iter().map(|it| (it.code.as_str(), it.detail.as_str())).collect();
        let panicked = "the check panicked; the log says where";
        assert_eq!(told, [("payments", "the gateway refuses"), ("broken", panicked)]);
        let degraded = Health::Degraded("90 % full".to_owned());
        assert!(checks.results().contains(&("slow-disk".to_owned(), degraded)));
    }

    #[tokio::test]
    async fn h2_a_check_that_hangs_is_sick_at_the_second_time_and_well_again_at_once() {
        let hangs = Arc::new(AtomicBool::new(true));
        let switch = Arc::clone(&hangs);
        let mut checks = Checks::new(vec![named("it", move || {
            let hangs = switch.load(Ordering::Relaxed);
            async move { if hangs { std::future::pending().await } else { Health::Ready } }
        })])
        .unwrap();
        assert_eq!(checks.ask().await, []);
        let reasons = checks.ask().await;
        assert_eq!(reasons[0].detail, "no answer within 1000 ms");
        hangs.store(false, Ordering::Relaxed);
        assert_eq!(checks.ask().await, []);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn h2_a_check_that_blocks_a_thread_blocks_one_only() {
        let begun = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let wait = Arc::new(tokio::sync::Mutex::new(wait));
        let counted = Arc::clone(&begun);
        let mut checks = Checks::new(vec![named("it", move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let wait = Arc::clone(&wait);
            async move {
                let wait = wait.lock().await;
                wait.recv().ok();
                Health::Ready
            }
        })])
        .unwrap();
        assert_eq!(checks.ask().await, []);
        assert_eq!(checks.ask().await.len(), 1);
        assert_eq!(checks.ask().await.len(), 1);
        assert_eq!(begun.load(Ordering::Relaxed), 1);
        drop(end);
    }

    #[test]
    fn h2_names_that_are_none_or_stand_twice_are_refused() {
        let check = |name: &str| named(name, || async { Health::Ready });
        let long = "x".repeat(65);
        for name in ["", "A", "a b", "ü", long.as_str()] {
            let error = Checks::new(vec![check(name)]).unwrap_err().to_string();
            assert!(error.contains("1 to 64 of a-z 0-9 _ -"), "{error}");
        }
        let error = Checks::new(vec![check("a"), check("b"), check("a")]).unwrap_err();
        assert!(error.to_string().contains("two health checks are called `a`"), "{error}");
    }
}

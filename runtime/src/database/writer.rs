//! Group commit for SQLite: one task writes for all, and whatever waits while a transaction runs goes into the next.
//!
//! SQLite has one writer at a time, and connections that wait for it poll with growing pauses. A queue before a
//! single writer is both fair and faster: one commit serves many sessions.

use async_trait::async_trait;
use sea_orm::{
    DatabaseConnection, DatabaseExecutor, DatabaseTransaction, DbErr, SqliteTransactionMode,
    TransactionOptions, TransactionTrait as _,
};
use tokio::sync::{mpsc, oneshot};
use tracing::{Instrument as _, Span};

use super::Work;
use super::error::DatabaseError;

/// More waiting writes than this make the callers wait at the queue.
const QUEUE: usize = 1024;
/// Most writes in one transaction, so that the first of them is not kept waiting for long.
const BATCH: usize = 128;

/// The queue of the writer task; the task ends when the last clone is dropped.
#[derive(Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Job>>,
}

impl Writer {
    /// Starts the writer task on the current tokio runtime.
    pub(super) fn start(connection: DatabaseConnection) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE);
        tokio::spawn(run(connection, jobs));
        Self { queue }
    }

    /// Has `work` done in a transaction of the writer; answers after its commit.
    pub(super) async fn write<T, W>(&self, work: W) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        W: Work<T>,
    {
        let (reply, answer) = oneshot::channel();
        let job = Queued { work, result: None, reply, span: Span::current() };
        let gone = || DatabaseError::Away(DbErr::Custom("its writer has ended".into()));
        self.queue.send(Box::new(job)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?.map_err(Into::into)
    }
}

/// One write in the queue.
#[async_trait]
trait Job: Send {
    /// Does the work and keeps its result. May be called again after a rollback.
    async fn run(&mut self, transaction: &DatabaseTransaction) -> Result<(), DbErr>;

    /// Says whether nobody waits for the answer any more.
    fn is_given_up(&self) -> bool;

    /// Answers the caller: with the result when the work is committed.
    fn answer(self: Box<Self>, outcome: Result<(), DbErr>);
}

struct Queued<T, W> {
    work: W,
    result: Option<T>,
    reply: oneshot::Sender<Result<T, DbErr>>,
    /// What whoever asked is doing.
    span: Span,
}

#[async_trait]
impl<T: Send + 'static, W: Work<T>> Job for Queued<T, W> {
    async fn run(&mut self, transaction: &DatabaseTransaction) -> Result<(), DbErr> {
        let executor = DatabaseExecutor::Transaction(transaction);
        self.result = Some((self.work)(&executor).instrument(self.span.clone()).await?);
        Ok(())
    }

    fn is_given_up(&self) -> bool {
        self.reply.is_closed()
    }

    fn answer(self: Box<Self>, outcome: Result<(), DbErr>) {
        let Self { result, reply, .. } = *self;
        let answer = outcome
            .and_then(|()| result.ok_or_else(|| DbErr::Custom("the work was never done".into())));
        // A caller that has gone away needs no answer.
        reply.send(answer).ok();
    }
}

async fn run(connection: DatabaseConnection, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
    let mut batch = Vec::with_capacity(BATCH);
    while jobs.recv_many(&mut batch, BATCH).await > 0 {
        batch.retain(|job| !job.is_given_up());
        if let Err(error) = commit(&connection, &mut batch).await {
            // Not everybody shall suffer from one bad write: give each a transaction of its own. A batch of one has
            // had that already.
            match &mut batch[..] {
                [_] => answer(&mut batch, &Err(error)),
                _ => one_by_one(&connection, &mut batch).await,
            }
        } else {
            answer(&mut batch, &Ok(()));
        }
    }
}

/// Does all jobs in one transaction; nothing of it stays when it fails.
async fn commit(connection: &DatabaseConnection, batch: &mut [Box<dyn Job>]) -> Result<(), DbErr> {
    if batch.is_empty() {
        return Ok(());
    }
    // Immediate: a transaction that begins with a read and writes later fails at once when another process has
    // written in between, without the busy time-out.
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let transaction = connection.begin_with_options(options).await?;
    for job in batch {
        job.run(&transaction).await?;
    }
    transaction.commit().await
}

async fn one_by_one(connection: &DatabaseConnection, batch: &mut Vec<Box<dyn Job>>) {
    for job in batch.drain(..) {
        let mut alone = vec![job];
        let outcome = commit(connection, &mut alone).await;
        answer(&mut alone, &outcome);
    }
}

fn answer(batch: &mut Vec<Box<dyn Job>>, outcome: &Result<(), DbErr>) {
    for job in batch.drain(..) {
        job.answer(outcome.clone());
    }
}

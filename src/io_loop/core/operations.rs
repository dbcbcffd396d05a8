//! Operations that complete, as the streams on a loop ask for them.

use super::Core;
use crate::driver::OperationKey;
use crate::driver::operation::{Operation, Owner, PoolId};
use crate::error::LoopError;
use std::io;
use std::rc::Rc;

impl Core {
    /// Starts an operation. Its owner hears of it in a later turn.
    pub(crate) fn submit(
        &self,
        operation: Operation,
        owner: Rc<dyn Owner>,
    ) -> Result<OperationKey, LoopError> {
        Ok(self.driver()?.submit(operation, owner))
    }

    /// Asks for an operation to end. If the loop is not running, it has ended when this returns.
    pub(crate) fn cancel(&self, operation: OperationKey) {
        let Ok(mut driver) = self.driver() else { return };
        driver.cancel(operation);
        drop(driver);
        if !self.running.get() {
            // No turn may ever follow. What cannot be let go of now is when the loop is closed.
            let _ = self.release();
        }
    }

    /// The pool that streams receive into if they have none of their own.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    pub(crate) fn default_pool(&self) -> io::Result<PoolId> {
        if let Some(pool) = self.pool.get() {
            return Ok(pool);
        }
        let pool = self.driver()?.add_pool(self.pool_size, self.shared.clone())?;
        self.pool.set(Some(pool));
        Ok(pool)
    }
}

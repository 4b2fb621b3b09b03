import { type ArgumentsHost, BadRequestException, Catch, ConflictException } from '@nestjs/common';
import { BaseExceptionFilter } from '@nestjs/core';
import { DatabaseError } from 'pg';

/** What a client gets to read for each constraint of the schema. */
const MESSAGES: Record<string, string> = {
  task_title_unique: 'There is already a task with this title.',
  task_title_length: 'A title has 1 to 80 characters.',
};

/**
 * Constraints are part of the schema, and breaking one is the client's mistake: 409 for a duplicate, 400 for a value
 * that the table refuses. Any other database error stays a 500, and its text stays in the log.
 *
 * https://www.postgresql.org/docs/18/errcodes-appendix.html
 */
@Catch(DatabaseError)
export class ConstraintFilter extends BaseExceptionFilter {
  override catch(error: DatabaseError, host: ArgumentsHost): void {
    const message = MESSAGES[error.constraint ?? ''] ?? 'The database refuses this value.';
    switch (error.code) {
      case '23505': // unique_violation
        super.catch(new ConflictException(message), host);
        break;
      case '23502': // not_null_violation
      case '23514': // check_violation
        super.catch(new BadRequestException(message), host);
        break;
      default:
        super.catch(error, host);
    }
  }
}

import { type ArgumentsHost, Catch, ConflictException } from '@nestjs/common';
import { BaseExceptionFilter } from '@nestjs/core';
import { DatabaseError } from 'pg';

/** What a client gets to read for each constraint of the schema. */
const MESSAGES: Record<string, string> = {
  stock_not_negative: 'There is not so much in stock.',
  purchase_not_empty: 'An order is of one or more.',
};

/** By the time an error comes here, everything has been rolled back. */
@Catch(DatabaseError)
export class ConstraintFilter extends BaseExceptionFilter {
  override catch(error: DatabaseError, host: ArgumentsHost): void {
    const message = MESSAGES[error.constraint ?? ''];
    super.catch(message === undefined ? error : new ConflictException(message), host);
  }
}

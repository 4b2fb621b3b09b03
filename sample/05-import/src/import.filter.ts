import { type ArgumentsHost, BadRequestException, Catch } from '@nestjs/common';
import { BaseExceptionFilter } from '@nestjs/core';
import { DatabaseError } from 'pg';

/** What the data can be: of the wrong form (class 22), or against the table's constraints (class 23). */
const BAD_DATA = /^2[23]/;
const PLACE = /, line (\d+)(?:, column (\w+))?/;

/** A bad file is the client's mistake: 400, with the line and the column that the server names. Its values stay in the log. */
@Catch(DatabaseError)
export class ImportFilter extends BaseExceptionFilter {
  override catch(error: DatabaseError, host: ArgumentsHost): void {
    if (!BAD_DATA.test(error.code ?? '')) {
      super.catch(error, host);
      return;
    }
    const [, line, column] = PLACE.exec(error.where ?? '') ?? [];
    const body = {
      statusCode: 400,
      message: error.message,
      ...(line && { line: Number(line) }),
      ...(column && { column }),
    };
    super.catch(new BadRequestException(body), host);
  }
}

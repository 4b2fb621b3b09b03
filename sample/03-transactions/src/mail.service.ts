import { Injectable } from '@nestjs/common';

/** Stands for whatever cannot be taken back: a mail, a message, a payment. */
@Injectable()
export class MailService {
  readonly sent: string[] = [];

  async send(text: string): Promise<void> {
    this.sent.push(text);
  }
}

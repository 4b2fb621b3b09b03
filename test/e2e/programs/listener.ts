// A script that listens until it is told to stop, and closes nothing.
import { createNotifications, createPool } from 'nestjs-pg';

const pool = createPool({ connectionString: process.env['DATABASE_URL'], application_name: 'listener' });
const notifications = createNotifications(pool);
const subscription = notifications.listen('orders').subscribe((event) => {
  console.log(event.kind === 'notification' ? event.payload : event.kind);
  if (event.kind === 'notification' && event.payload === 'stop') subscription.unsubscribe();
});

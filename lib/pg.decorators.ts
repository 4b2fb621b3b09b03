import { Inject } from '@nestjs/common';
import { getConnectionFactoryToken, getNotificationsToken, getPoolToken } from './pg.tokens.js';

/** Injects the pool with this name, or the default one. */
export const InjectPool = (name?: string): ParameterDecorator & PropertyDecorator => Inject(getPoolToken(name));

/** Injects the connection factory of the pool with this name, or of the default one. */
export const InjectConnectionFactory = (name?: string): ParameterDecorator & PropertyDecorator =>
  Inject(getConnectionFactoryToken(name));

/** Injects the {@link PgNotifications} of the pool with this name, or of the default one. */
export const InjectNotifications = (name?: string): ParameterDecorator & PropertyDecorator =>
  Inject(getNotificationsToken(name));

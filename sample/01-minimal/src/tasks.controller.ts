import {
  BadRequestException,
  Body,
  Controller,
  DefaultValuePipe,
  Delete,
  Get,
  Header,
  HttpCode,
  Param,
  ParseIntPipe,
  Post,
  Query,
} from '@nestjs/common';
import { tasksPage } from './tasks.page.js';
import { TasksService } from './tasks.service.js';
import type { Task } from './task.js';

const LONGEST_SLEEP_MILLIS = 10_000;

@Controller()
export class TasksController {
  constructor(private readonly tasks: TasksService) {}

  @Get()
  @Header('content-type', 'text/html; charset=utf-8')
  async page(): Promise<string> {
    return tasksPage(await this.tasks.list());
  }

  @Get('tasks')
  list(): Promise<Task[]> {
    return this.tasks.list();
  }

  @Post('tasks')
  async add(@Body('title') title: unknown): Promise<Task> {
    if (typeof title !== 'string') throw new BadRequestException('Send a title: {"title":"Water the plants"}');
    return this.tasks.add(title.trim());
  }

  @Delete('tasks/:id')
  @HttpCode(204)
  async remove(@Param('id', ParseIntPipe) id: number): Promise<void> {
    await this.tasks.remove(id);
  }

  @Get('slow')
  async slow(@Query('ms', new DefaultValuePipe(1000), ParseIntPipe) ms: number): Promise<{ sleptMillis: number }> {
    const sleptMillis = Math.min(Math.max(ms, 0), LONGEST_SLEEP_MILLIS);
    await this.tasks.sleep(sleptMillis);
    return { sleptMillis };
  }
}

/** The user's settings for views. */
import type { ISettingRegistry } from '@jupyterlab/settingregistry';
import type { ViewSettings } from '../view/logview';

/** What the user has chosen; what is missing is left to the view. */
export type ViewDefaults = Partial<ViewSettings>;

/** Where views get the settings from. */
export interface SettingsSource {
  readonly values: ViewDefaults;
  /** Calls `apply` with the values whenever they change; gives the undo. */
  follow(apply: (values: ViewDefaults) => void): () => void;
}

/** Leaves all to the view until the registry's settings have come. */
export class Settings implements SettingsSource {
  get values(): ViewDefaults {
    return this.current;
  }

  follow(apply: (values: ViewDefaults) => void): () => void {
    this.appliers.add(apply);
    return () => {
      this.appliers.delete(apply);
    };
  }

  use(settings: Pick<ISettingRegistry.ISettings, 'composite' | 'changed'>): void {
    const update = (): void => {
      this.current = viewDefaults(settings.composite);
      for (const apply of this.appliers) {
        apply(this.current);
      }
    };
    settings.changed.connect(update);
    update();
  }

  private readonly appliers = new Set<(values: ViewDefaults) => void>();
  private current: ViewDefaults = {};
}

/** Reads what schema/plugin.json describes; leaves out what is not as it asks for. */
export function viewDefaults({ follow, wrap, time, maxHeight }: ISettingRegistry.ISettings['composite']): ViewDefaults {
  return {
    ...(typeof follow === 'boolean' ? { follow } : {}),
    ...(typeof wrap === 'boolean' ? { wrap } : {}),
    ...(time === 'absolute' || time === 'relative' || time === 'off' ? { time } : {}),
    ...(typeof maxHeight === 'number' && maxHeight > 0 ? { maxHeight: `${maxHeight}px` } : {})
  };
}

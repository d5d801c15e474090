/**
 * `juicepod completion bash|zsh|fish`: a script for a shell, made from the tree of commands, so that it never lags behind. It knows
 * subcommands, options, the choices of those that have some, and where a file is wanted; it asks nobody.
 */
import type { Command } from 'commander';

export type Shell = 'bash' | 'zsh' | 'fish';

interface Flag {
  /** `--output`, `-o`. */
  readonly names: readonly string[];
  readonly description: string;
  /** What may follow; undefined where nothing does. */
  readonly value: { readonly choices: readonly string[]; readonly isFile: boolean } | undefined;
}

/** A command and its place: '' for the program, `cluster status` for one below another. */
interface Place {
  readonly path: string;
  readonly children: readonly { readonly name: string; readonly description: string }[];
  readonly flags: readonly Flag[];
  /** Choices of the first argument. */
  readonly choices: readonly string[];
  /** Files complete what is neither option nor choice. */
  readonly takesFiles: boolean;
}

const FILE = /<(file|path|folder)(\.\.\.)?>/;

function placesOf(command: Command, path = ''): readonly Place[] {
  const visible = command
    .createHelp()
    .visibleCommands(command)
    .filter((each) => each.name() !== 'help');
  const flags = command
    .createHelp()
    .visibleOptions(command)
    .map((option): Flag => ({
      names: [option.short, option.long].filter((name) => name !== undefined && name !== null),
      description: option.description,
      value:
        option.required || option.optional ? { choices: option.argChoices ?? [], isFile: FILE.test(option.flags) } : undefined,
    }));
  const [first] = command.registeredArguments;
  const place: Place = {
    path,
    children: visible.map((each) => ({ name: each.name(), description: each.summary() || each.description() })),
    flags,
    choices: first?.argChoices ?? [],
    takesFiles: command.registeredArguments.some((argument) => /PATH|FOLDER|MOUNTPOINT/.test(argument.name())),
  };
  return [place, ...visible.flatMap((each) => placesOf(each, path === '' ? each.name() : `${path} ${each.name()}`))];
}

/** In single quotes, for bash and zsh. */
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
/** The same for fish, where only these two are special inside. */
const fishQuoted = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", `\\'`)}'`;
const plain = (description: string): string => description.split('\n', 1)[0]?.trim() ?? '';

/** `"parent child"` of each step down the tree. */
const steps = (places: readonly Place[]): readonly string[] =>
  places.flatMap(({ path, children }) => children.map(({ name }) => `${path} ${name}`));

/** The cases of the word before, for options that take a value. */
function valueCases({ flags }: Place, words: (choices: readonly string[]) => string, files: string): string {
  return flags
    .filter((flag) => flag.value !== undefined)
    .map(({ names, value }) => {
      const act = value && value.choices.length > 0 ? words(value.choices) : value?.isFile ? files : ':';
      return `        ${names.join(' | ')}) ${act}; return ;;\n`;
    })
    .join('');
}

function bash(places: readonly Place[]): string {
  const reply = (words: readonly string[]): string => `mapfile -t COMPREPLY < <(compgen -W ${quoted(words.join(' '))} -- "$cur")`;
  const cases = places.map((place) => {
    const { path, children, flags, choices, takesFiles } = place;
    const names = flags.flatMap((flag) => flag.names);
    const others = [...children.map(({ name }) => name), ...choices];
    const rest = others.length > 0 ? reply(others) : takesFiles ? 'mapfile -t COMPREPLY < <(compgen -f -- "$cur")' : ':';
    return `    ${quoted(path)})
      case "$prev" in
${valueCases(place, reply, 'mapfile -t COMPREPLY < <(compgen -f -- "$cur")')}        *) ;;
      esac
      if [[ $cur == -* ]]; then ${reply(names)}; else ${rest}; fi ;;
`;
  });
  return `# Completion of juicepod for bash. Made by: juicepod completion bash
_juicepod() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}" place='' i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$place \${COMP_WORDS[i]}" in
      ${steps(places).map(quoted).join(' | ')}) place="\${place:+$place }\${COMP_WORDS[i]}" ;;
    esac
  done
  case "$place" in
${cases.join('')}  esac
}
complete -o filenames -o bashdefault -F _juicepod juicepod
`;
}

function zsh(places: readonly Place[]): string {
  const described = (name: string, description: string): string => quoted(`${name.replaceAll(':', '\\:')}:${plain(description)}`);
  const words = (choices: readonly string[]): string => `compadd -- ${choices.map(quoted).join(' ')}`;
  const cases = places.map((place) => {
    const { path, children, flags, choices, takesFiles } = place;
    const options = flags.flatMap(({ names, description }) => names.map((name) => described(name, description)));
    const others = [
      ...children.map(({ name, description }) => described(name, description)),
      ...choices.map((each) => described(each, '')),
    ];
    return `    ${quoted(path)})
      case "\${words[CURRENT-1]}" in
${valueCases(place, words, '_files')}        *) ;;
      esac
      if [[ "\${words[CURRENT]}" == -* ]]; then items=(${options.join(' ')}); else items=(${others.join(' ')}); files=${takesFiles ? 1 : 0}; fi ;;
`;
  });
  return `#compdef juicepod
# Completion of juicepod for zsh. Made by: juicepod completion zsh
_juicepod() {
  local place='' i files=0
  local -a items
  for ((i = 2; i < CURRENT; i++)); do
    case "$place \${words[i]}" in
      ${steps(places).map(quoted).join(' | ')}) place="\${place:+$place }\${words[i]}" ;;
    esac
  done
  case "$place" in
${cases.join('')}  esac
  if ((\${#items})); then _describe 'juicepod' items; fi
  if ((files)); then _files; fi
}
if [[ "\${funcstack[1]}" == _juicepod ]]; then _juicepod "$@"; else compdef _juicepod juicepod; fi
`;
}

function fish(places: readonly Place[]): string {
  const lines = places.flatMap(({ path, children, flags, choices, takesFiles }) => {
    const at = `complete -c juicepod -n ${fishQuoted(`__juicepod_at ${fishQuoted(path)}`)}`;
    return [
      ...children.map(({ name, description }) => `${at} -a ${fishQuoted(name)} -d ${fishQuoted(plain(description))}`),
      ...(choices.length > 0 ? [`${at} -a ${fishQuoted(choices.join(' '))}`] : []),
      ...(takesFiles ? [`${at} -F`] : []),
      ...flags.map(({ names, description, value }) => {
        const spelled = names.map((name) => (name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`)).join(' ');
        const after = !value
          ? ''
          : value.choices.length > 0
            ? ` -x -a ${fishQuoted(value.choices.join(' '))}`
            : value.isFile
              ? ' -r -F'
              : ' -x';
        return `${at} ${spelled}${after} -d ${fishQuoted(plain(description))}`;
      }),
    ];
  });
  return `# Completion of juicepod for fish. Made by: juicepod completion fish
function __juicepod_at
    set -l place ''
    set -l words (commandline -opc)
    for word in $words[2..-1]
        switch "$place $word"
            case ${steps(places).map(fishQuoted).join(' ')}
                set place (string trim -- "$place $word")
        end
    end
    test "$place" = "$argv[1]"
end
complete -c juicepod -f
${lines.join('\n')}
`;
}

/** The script of a shell for this tree of commands. */
export function completionScript(shell: Shell, program: Command): string {
  const places = placesOf(program);
  switch (shell) {
    case 'bash':
      return bash(places);
    case 'zsh':
      return zsh(places);
    case 'fish':
      return fish(places);
    default:
      return shell satisfies never;
  }
}

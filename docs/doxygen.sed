# What Doxygen reads in place of a public header; its comments are written to be read as they are.

# "Ownership: ..." begins a paragraph of that name. Its text keeps the column of the comment: Doxygen takes lines
# that stand further to the right than others for code.
s/^( *\* )(Ownership|Threads|Blocking|Errors): +/\1@par \2\n\1/
s/^( *)\/\*\* (Ownership|Threads|Blocking|Errors): +/\1\/** @par \2\n\1 * /

# A "@name" is a chapter of the reference: docs/reference has a heading for each.
s/^\/\*\* @name ([A-Z])([a-z]+)/\/** @defgroup \L\1\2\E \1\2/

# The inline namespaces that keep files apart that were compiled differently are no part of any name.
s/^DYNAMO_LLM_BEGIN$/namespace dynamo_llm {/
s/^DYNAMO_LLM_END$/}/

# A name that is both a tag and a type is one thing.
s/^typedef (struct|enum) ([a-z_]+) \{$/\1 \2 {/
s/^\} dynamo_[a-z_]+_t;$/};/

# Names of headers are no links.
/@file/!{
    :next
    s#^( \*.*[ (])((dynamo_llm/)?(dynamo_llm|engine|cluster|worker|kv_events|router)\.(h|hpp))\b#\1%\2#
    t next
}

local last_name, last_end, head, head_size, head_plain, name_end, id_end
